"""Run folders: what they record, when they refuse, how they resume."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from difference_feedback.errors import ConfigError
from difference_feedback.runs.checkpoints import seal
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import EvaluateRecipe, TrainRecipe


def test_a_new_run_records_recipe_versions_and_seed(tmp_path: Path) -> None:
    recipe = TrainRecipe(seed=5)
    run = Run(tmp_path / "run", recipe)
    assert not run.resumed
    assert not run.finished
    assert load_recipe(run.folder / "config.yaml", TrainRecipe) == recipe
    versions = json.loads((run.folder / "versions.json").read_text())
    assert versions["seed"] == 5
    for name in ("python", "torch", "transformers", "trl", "rapidfuzz", "difference-feedback", "platform", "cores"):
        assert versions[name], name
    assert run.checkpoints.is_dir()


def test_metrics_append_and_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    run = Run(tmp_path, TrainRecipe())
    run.log(step=1, loss=float("nan"), accuracy=np.float32(0.5))
    run.log(step=2, loss=np.inf, parts={"a": [1, float("inf")]})
    assert run.metrics() == [
        {"step": 1, "loss": None, "accuracy": 0.5},
        {"step": 2, "loss": None, "parts": {"a": [1, None]}},
    ]


def test_an_interrupted_run_is_taken_up_and_its_torn_last_row_dropped(tmp_path: Path) -> None:
    run = Run(tmp_path, TrainRecipe())
    for step in (1, 2, 3):
        run.log(step=step)
    with run.metrics_path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = Run(tmp_path, TrainRecipe())
    assert again.resumed
    again.log(step=4)
    assert [row["step"] for row in again.metrics()] == [1, 2, 3, 4]
    again.rewind(2)
    assert [row["step"] for row in again.metrics()] == [1, 2]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_recipe_is_refused_without_overwrite(tmp_path: Path, finished: bool) -> None:
    run = Run(tmp_path, TrainRecipe(seed=1))
    run.log(step=1)
    if finished:
        run.finish({"accuracy": 0.5})
    with pytest.raises(ConfigError, match=r"seed: 1 there, 2 now.*--overwrite"):
        Run(tmp_path, TrainRecipe(seed=2))
    with pytest.raises(ConfigError, match=r"kind: 'train' there, 'evaluate' now"):
        Run(tmp_path, EvaluateRecipe(seed=1))
    anew = Run(tmp_path, TrainRecipe(seed=2), overwrite=True)
    assert not anew.resumed
    assert not anew.finished
    assert anew.metrics() == []


def test_a_recipe_may_be_corrected_before_its_run_has_begun(tmp_path: Path) -> None:
    Run(tmp_path / "run", TrainRecipe(seed=1))
    corrected = Run(tmp_path / "run", TrainRecipe(seed=2))
    assert not corrected.resumed
    assert load_recipe(corrected.folder / "config.yaml", TrainRecipe).seed == 2
    corrected.log(step=1)
    with pytest.raises(ConfigError, match=r"seed: 2 .*--overwrite"):
        Run(tmp_path / "run", TrainRecipe(seed=1))


def test_a_run_that_an_error_stopped_before_it_began_is_not_continued(tmp_path: Path) -> None:
    for _ in range(2):
        run = Run(tmp_path / "run", TrainRecipe())
        assert not run.resumed
    run.log(step=1, reward=0.0)
    assert Run(tmp_path / "run", TrainRecipe()).resumed


def test_an_output_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=r"file.*--output"):
            Run(output, TrainRecipe())


def test_the_same_recipe_finds_a_finished_run_finished(tmp_path: Path) -> None:
    Run(tmp_path, TrainRecipe()).finish({"accuracy": 0.5})
    again = Run(tmp_path, TrainRecipe())
    assert again.finished
    assert again.summary() == {"accuracy": 0.5}


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="holds no run"):
            Run(tmp_path, TrainRecipe(), overwrite=overwrite)
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_overwriting_removes_the_run_s_own_files_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path, TrainRecipe())
    part = Run(run.folder / "part", EvaluateRecipe())
    (run.checkpoints / "checkpoint-1").mkdir()
    (tmp_path / "notes.json").write_text("mine")
    (tmp_path / "pictures").mkdir()
    Run(tmp_path, TrainRecipe(seed=9), overwrite=True)
    assert not part.folder.exists()
    assert not (run.checkpoints / "checkpoint-1").exists()
    assert (tmp_path / "notes.json").read_text() == "mine"
    assert (tmp_path / "pictures").is_dir()


def test_the_last_complete_checkpoint_counts(tmp_path: Path) -> None:
    run = Run(tmp_path, TrainRecipe())
    assert run.last_checkpoint() is None
    for step, complete in ((9, True), (10, True), (11, False)):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir()
        if complete:
            (folder / "trainer_state.json").write_text("{}")
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-10"


@pytest.mark.parametrize("content", ["", '{"accuracy": 0.', "null", "[]", "{}", "\0\0\0"])
def test_a_summary_that_is_no_summary_does_not_count_as_a_result(tmp_path: Path, content: str) -> None:
    """The model may be whole: nothing is removed before a person has looked."""
    run = Run(tmp_path, TrainRecipe())
    run.log(step=1)
    run.model_path.mkdir()
    summary = run.finish({"accuracy": 0.5})
    summary.write_text(content)
    with pytest.raises(ConfigError, match=rf"{summary}.*remove it"):
        Run(tmp_path, TrainRecipe())
    assert run.model_path.is_dir()
    summary.unlink()
    again = Run(tmp_path, TrainRecipe())
    assert again.resumed
    assert not again.finished
    summary.write_text(content)
    assert not Run(tmp_path, TrainRecipe(), overwrite=True).finished


@pytest.mark.parametrize("content", ["", "seed: 0\n", "- train\n", "train"])
def test_a_recipe_that_is_cut_off_is_said_to_be(tmp_path: Path, content: str) -> None:
    run = Run(tmp_path, TrainRecipe())
    run.log(step=1)
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ConfigError) as refused:
        Run(tmp_path, TrainRecipe())
    assert str(tmp_path / "config.yaml") in str(refused.value)
    assert "--overwrite" in str(refused.value)
    assert len(str(refused.value)) < 200 + len(str(tmp_path))
    assert not Run(tmp_path, TrainRecipe(), overwrite=True).resumed


def test_a_sealed_checkpoint_that_a_crash_filled_with_zeros_does_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path, TrainRecipe())
    for step in (1, 2):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text('{"log_history": []}')
        save_file({"x": np.zeros(3)}, folder / "model.safetensors")
        with zipfile.ZipFile(folder / "optimizer.pt", "w") as file:
            file.writestr("data", "moments")
        seal(folder)
    older, newer = (run.checkpoints / f"checkpoint-{step}" for step in (1, 2))
    for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
        assert run.last_checkpoint() == newer
        content = (newer / name).read_bytes()
        (newer / name).write_bytes(bytes(len(content)))
        assert run.last_checkpoint() == older
        (newer / name).write_bytes(content)


def test_a_run_whose_checkpoints_count_no_rows_has_one_row_of_its_end(tmp_path: Path) -> None:
    """Checkpoints of the release before. The run was killed when it had trained to the last step."""
    run = Run(tmp_path, TrainRecipe())
    run.log(step=1, loss=0.1)
    run.log(step=2, loss=0.2)
    run.log(step=2, train_runtime=3.0)
    checkpoint = run.checkpoints / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text("{}")
    run.rewind_to(checkpoint)
    assert run.metrics() == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}]


def test_a_model_by_another_path_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its whole path, through a link, or as the shared model of a bench that was moved."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/model", "b/model"):
        Path(name).mkdir(parents=True)
    Path("link").symlink_to("a")
    Run("run", TrainRecipe(repair_model="a/model")).log(step=1)
    for path in (str(tmp_path / "a/model"), "link/model", "./a/model"):
        assert Run("run", TrainRecipe(repair_model=path)).resumed
        assert load_recipe("run/config.yaml", TrainRecipe).repair_model == path
    for path in ("b/model", "c/model", "oracle"):
        with pytest.raises(ConfigError, match=f"repair_model: './a/model' there, '{path}' now"):
            Run("run", TrainRecipe(repair_model=path))
    of_bench = "shared/repair_sft-0123abcd/model"
    Run("cell", TrainRecipe(repair_model=f"old/{of_bench}")).log(step=1)
    assert Run("cell", TrainRecipe(repair_model=f"/new/{of_bench}")).resumed
    with pytest.raises(ConfigError, match="of another recipe"):
        Run("cell", TrainRecipe(repair_model=f"old/{of_bench.replace('0123', '3210')}"))
