"""A bench goes on wherever its folder lies, and by whatever path it is named."""

import shutil
from pathlib import Path

import pytest

from difference_feedback.bench.results import load_results
from difference_feedback.bench.run_cell import _read_work, _shared
from difference_feedback.errors import DataError
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import fingerprint
from difference_feedback.runs.recipes import RepairRLRecipe


def second_stage(root: Path | str) -> RepairRLRecipe:
    return RepairRLRecipe(model=str(Path(root) / "shared/repair_sft-0123abcd/model"))


def train(run: Run) -> None:
    run.finish({"cpu_seconds": 2.0})


def refuse(run: Run) -> None:
    raise AssertionError("it is trained already")


def test_models_that_cells_share_are_made_once_also_where_the_bench_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place, seconds, _ = _shared(second_stage("bench"), Path("bench"), "repair_rl", train)
    for root in (Path("bench"), tmp_path / "bench", Path("elsewhere")):
        if not root.exists():
            shutil.move("bench", root)
        again = _shared(second_stage(root), root, "repair_rl", refuse)
        assert again[:2] == (root / place.relative_to("bench"), seconds)


def test_a_shared_model_of_the_release_before_is_found_by_its_name(tmp_path: Path) -> None:
    """The name was made of the model's whole path."""
    recipe = second_stage(tmp_path)
    train(Run(tmp_path / "shared" / f"repair_rl-{fingerprint(recipe)}", recipe))
    _shared(recipe, tmp_path, "repair_rl", refuse)


def test_files_of_a_bench_that_were_damaged_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text('{"hash": "a", "accuracy": 0.5}\n{"accuracy": 1.0}\n')
    with pytest.raises(DataError, match=rf'{results}.*"hash".*1\.0'):
        load_results(results)
    run = Run(tmp_path / "run", RepairRLRecipe())
    assert _read_work(run).forward == 0
    (run.folder / "work.json").write_text('{"forward": 1')
    with pytest.raises(DataError, match=r"work\.json is cut off"):
        _read_work(run)
