"""From a file of questions to the repair model: it reads the same tokens and pixels in its training and in its use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from architectures import picture
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.judges.questions import training_data
from difference_feedback.models.load import load_model
from difference_feedback.policy.wrong_answers import WrongAnswers
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.sft import RepairCollator, sft_dataset
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.trl import DFGRPOTrainer

QUESTIONS: list[dict[str, Any]] = [
    {"id": "dots/1", "question": "Is <image2> larger than <image1> ?", "image": ["a.png", "b.png"], "answer": "yes"},
    {"id": "dots_1", "question": "which is right ?", "image": ["b.png", "a.png", "b.png"], "answer": "4"},
    {"id": 0, "question": "how many ?", "image": "a.png", "answer": "B", "options": ["3", "4"]},
]
FORMS: list[dict[str, str]] = [{}, {"system_prompt": "look closely", "format_prompt": "{question} Then \\boxed{}."}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    picture(1).save(tmp_path / "a.png")
    picture(2, 112, 56).save(tmp_path / "b.png")
    write_jsonl(tmp_path / "data.jsonl", QUESTIONS)
    return tmp_path / "data.jsonl"


def first_of_each_group(completions: list[Any], **_: Any) -> list[float]:
    return [float(i % 2 == 0) for i in range(len(completions))]


def read_by(inputs: dict[str, Any]) -> list[Any]:
    """What a model reads of one row: the tokens of its prompt, and the pixels."""
    labels = inputs.get("labels", torch.full_like(inputs["input_ids"], -100))
    seen = (inputs["attention_mask"] == 1) & (labels == -100)
    return [inputs["input_ids"][seen].tolist(), inputs["pixel_values"]]


@pytest.mark.parametrize("form", FORMS, ids=["instruction", "format"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3"])
def test_a_repair_model_is_trained_on_the_tokens_that_it_reads_in_its_use(
    checkpoint: Callable[[str], Path], data: Path, tmp_path: Path, name: str, form: dict[str, str]
) -> None:
    folder = str(checkpoint(name))
    recipe = TrainRecipe.model_validate({"model": folder, "data": {"path": str(data)}, **form})
    dataset, _ = training_data(recipe)
    (policy, processor), (repair_model, _) = load_model(folder), load_model(folder)
    used: list[list[Any]] = []
    generate = repair_model.generate
    repair_model.generate = lambda **inputs: used.append(read_by(inputs)) or generate(**inputs)
    settings = {"per_device_train_batch_size": 6, "num_generations": 2, "max_completion_length": 6, "max_steps": 1}
    trainer = DFGRPOTrainer(
        policy,
        first_of_each_group,
        trl_world.config(tmp_path, **settings),
        train_dataset=dataset,
        processing_class=processor,
        repairer=LocalRepairer(repair_model, processor, max_new_tokens=4, batch_size=1),
    )
    trainer.watch = WrongAnswers(tmp_path / "run", 9)
    trainer.train()

    items = read_rows(tmp_path / "run" / "items.jsonl")
    assert {item["id"] for item in items} == {"dots/1", "dots_1", "0"}
    rows = load_repair_set(write_repairs(tmp_path / "run")).rows
    collate = RepairCollator(processor, policy.generation_config)
    trained = [read_by(collate([row])) for row in sft_dataset(rows, processor, "full")]
    assert len(used) == len(trained) == 3
    for ids, pixels in trained:
        [same] = [their_pixels for their_ids, their_pixels in used if their_ids == ids]
        torch.testing.assert_close(pixels, same, rtol=0, atol=0)

    collected = collect(data, tmp_path / "collected", form, items)
    kept = {item["id"]: item for item in items}
    assert collected.keys() == kept.keys()
    for id, item in collected.items():
        assert item["prompt"] == kept[id]["prompt"]
        for here, there in zip(item["image"], kept[id]["image"], strict=True):
            assert (tmp_path / "collected" / here).read_bytes() == (tmp_path / "run" / there).read_bytes()


def write_repairs(folder: Path) -> Path:
    items = read_rows(folder / "items.jsonl")
    write_jsonl(folder / "items.annotated.jsonl", [item | {"repaired": "x 4", "annotator": "ada"} for item in items])
    return folder / "items.annotated.jsonl"


def collect(data: Path, output: Path, form: dict[str, str], items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`repair collect` on the answers of these items, and a right one to each question."""
    answers = {str(row["id"]): row["answer"] for row in QUESTIONS}
    responses = [{"id": item["id"], "response": f"{item['draft']} so it is 77"} for item in items]
    responses += [{"id": id, "response": f"\\boxed{{{answer}}}"} for id, answer in answers.items()]
    write_jsonl(output.parent / "responses.jsonl", responses)
    words = [f"{key}={json.dumps(value)}" for key, value in form.items()]
    arguments = ["repair", "collect", str(data), *words, "-r", str(output.parent / "responses.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "-o", str(output), "--min-words", "0"])
    assert result.exit_code == 0, result.output
    return {item["id"]: item for item in read_rows(output / "items.jsonl")}


def test_people_read_the_bare_question_with_its_marks(data: Path, tmp_path: Path) -> None:
    items = [{"id": str(row["id"]), "draft": "x"} for row in QUESTIONS]
    collected = collect(data, tmp_path / "out", FORMS[1], items)
    shown = {id: item["question"] for id, item in collected.items()}
    assert shown == {
        "dots/1": "Is <image> larger than <image> ?",
        "dots_1": "which is right ?",
        "0": "how many ?\nA. 3\nB. 4",
    }
    pictures = [Path(name).name for item in collected.values() for name in item["image"]]
    assert len(set(pictures)) == len(pictures) == 6


def test_rows_of_the_release_before_are_read_by_their_question(data: Path, tmp_path: Path) -> None:
    """They have no prompt: the images stand at the question's marks, or before it."""
    row = {"draft": "x 3", "reference": "x 4", "repaired": "x 4", "image": ["a.png", "b.png"]}
    questions = ["is <image 2> larger than <image1> ?", "is it ?", "<image><image>is it ?", "is <image> it ?"]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(row | {"question": q}) + "\n" for q in questions))
    loaded = load_repair_set(path)
    kinds = [[part.get("text", "image") for part in row.prompt[0]["content"]] for row in loaded.rows]
    assert kinds == [["is ", "image", " larger than ", "image", " ?"], *[["image", "image", "is it ?"]] * 2]
    assert [[image.width for image in row.images] for row in loaded.rows] == [[112, 56], [56, 112], [56, 112]]
    assert loaded.errors[0].startswith("line 4, field 'question'")
    system = [{"role": "system", "content": [{"type": "text", "text": "look"}]}]
    assert loaded.rows[0].prompt_with("look") == system + loaded.rows[0].prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "text",
        [],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "video"}]}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    ],
)
def test_a_prompt_that_is_none_leaves_its_row_out(data: Path, tmp_path: Path, prompt: Any) -> None:
    row = {"question": "q", "draft": "x 3", "repaired": "x 4", "image": ["a.png", "b.png"]}
    write_jsonl(tmp_path / "set.jsonl", [row, row | {"prompt": prompt}])
    loaded = load_repair_set(tmp_path / "set.jsonl")
    assert len(loaded.rows) == 1
    assert loaded.errors[0].startswith("line 2, field ")
