"""Every known form, from its file to `LoadedData`: question, images, options, answer, and the rows left out."""

from pathlib import Path

import numpy as np
import pytest
from data.forms import COLORS, NAMES, FormFile, write_forms

from difference_feedback.data.dataset import load_data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FormFile]:
    return write_forms(tmp_path_factory.mktemp("forms"))


@pytest.mark.parametrize("name", NAMES)
def test_a_form_is_recognised_and_read(files: dict[str, FormFile], name: str) -> None:
    file = files[name]
    loaded = load_data(file.data)
    assert loaded.layout.form.name == (file.form or name)
    assert [problem.line for problem in loaded.problems] == list(file.left_out)
    questions = loaded.questions()
    assert len(questions) == len(file.rows)
    for question, expected, sizes in zip(questions, file.rows, loaded.sizes, strict=True):
        assert question.question == expected.question
        assert question.answer == expected.answer
        assert question.options == tuple(expected.options)
        assert (question.reference, question.system) == (expected.reference, expected.system)
        colors = [image.getpixel((5, 5)) for image in question.images]
        assert np.abs(np.subtract(colors, [COLORS[color] for color in expected.images])).max(initial=0) <= 2  # JPEG
        assert [(image.height, image.width) for image in question.images] == sizes
        assert question.question.count("<image>") == len(question.images)
        if expected.id is not None:
            assert question.id == expected.id
        assert {name: question.columns[name] for name in expected.columns} == dict(expected.columns)
    rows = loaded.for_training()
    for row, question in zip(rows, questions, strict=True):
        assert (row["id"], row["answer"], row["prompt"]) == (question.id, question.answer, question.prompt)
        assert len(row["images"]) == len(question.images)


@pytest.mark.parametrize("name", ["easyr1", "verl", "mmmu", "ai2d"])
def test_a_named_form_is_read_as_the_recognised_one(files: dict[str, FormFile], name: str) -> None:
    data = files[name].data
    named = load_data(data.model_copy(update={"form": name}))
    assert named.dataset["question"][:] == load_data(data).dataset["question"][:]
    assert named.dataset["answer"][:] == load_data(data).dataset["answer"][:]


def test_paths_do_not_depend_on_the_working_directory(
    files: dict[str, FormFile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = load_data(files["plain"].data)
    monkeypatch.chdir(tmp_path)
    assert len(loaded.questions()[0].images[0].tobytes()) > 0
