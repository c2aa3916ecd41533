"""Collect the data of the page from run folders, and check every file against the schema in `report.data`."""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import run_agreement
from difference_feedback.report.benchmarks import benchmark_folders, name_of
from difference_feedback.report.data import (
    LARGEST,
    BenchCell,
    BenchmarkScore,
    BenchPlan,
    Curve,
    CurvePoint,
    Example,
    MethodResult,
    RepairFigures,
    ReportData,
    RewardPoint,
    Summary,
)
from difference_feedback.report.health import kind_of, readings
from difference_feedback.report.shown import SpreadSample
from difference_feedback.runs.jsonl import iterate_rows
from difference_feedback.runs.yaml_text import parse_mapping, read_text

M = TypeVar("M", bound=BaseModel)
NAMES = {"grpo": "GRPO", "df-grpo": "DF-GRPO", "ar-grpo": "AR-GRPO", "prime": "PRIME"}
STAGES = {"repair_sft": "SFT", "repair_rl": "RL"}
"""Repair models that a bench's cells share, in the order of their training."""
POINTS = 60  # of a reward curve


def load_report(folders: Sequence[Path]) -> ReportData:
    """Collect the runs in `folders` and directly below them, their benchmarks, and the cells of a bench or demo.

    Raises `DataError` when a folder holds no run, or a file does not follow the schema; it names file, row and field.
    """
    data = ReportData(title=", ".join(folder.resolve().name for folder in folders))
    summaries: dict[Path, Summary] = {}
    examples = SpreadSample[Example]()
    for folder in folders:
        measured = benchmark_folders(folder)
        if not (folder / "config.yaml").is_file() and folder not in measured:
            raise DataError(f"{folder} holds no run, since it has no config.yaml: give a folder that a command wrote.")
        for path in measured:
            if scores := load_scores(path):
                name = name_of(path, scores)
                data.benchmarks[_free(name, f"{name} ({path})", data.benchmarks)] = scores
        if not (folder / "config.yaml").is_file():
            continue
        cells = _cells(data, folder)
        runs = [folder, *sorted(path.parent for path in folder.glob("*/config.yaml")), *cells, *_shared_models(folder)]
        for run in runs:
            summary = summaries[run] = _summary(run)
            method = cells[run] if run in cells else NAMES.get(summary.method or "", summary.method)
            name = run.name if run == folder else f"{folder.name}/{run.name}"
            _add_run(data, name, method, run, summary)
            for number, row in enumerate(iterate_rows(run / "examples.jsonl"), 1):
                examples.add(_checked(Example, row, f"{run / 'examples.jsonl'}, row {number}"))
    data.examples, data.example_count = examples.items, examples.seen
    data.repair = _repair_figures(summaries)
    return data


def load_scores(folder: Path) -> list[BenchmarkScore]:
    """The scores of the finished tasks in a folder of benchmarks. Raises `DataError` as `load_report`."""
    paths = sorted(path for path in folder.glob("*/summary.json"))
    return [_checked(BenchmarkScore, read_json(path), str(path)) for path in paths]


def _cells(data: ReportData, folder: Path) -> dict[Path, str]:
    """Folder -> label of a bench's finished cells, in its plan's order; start and upper bound go to `data`."""
    path, results = folder / "config.yaml", folder / "results.jsonl"
    if not results.is_file():
        return {}
    plan = _checked(BenchPlan, parse_mapping(read_text(path), str(path)), str(path))
    read = (_checked(BenchCell, row, f"{results}, row {number}") for number, row in enumerate(iterate_rows(results), 1))
    rows = {row.hash: row for row in read}
    cells: dict[Path, str] = {}
    for name, method in plan.methods.items():
        for row in rows.values():
            if row.method != name:
                continue
            if method.kind == "base":
                data.base_accuracy = row.accuracy
            elif method.kind == "supervised":
                data.upper_bound = row.accuracy
            swept = [f"{key.rsplit('.', 1)[-1]} {value}" for key, value in row.settings.items()]
            cells |= {run: ", ".join([row.label, *swept]) for run in (folder / "cells").glob(f"*-{row.hash}")}
    return cells


def _shared_models(folder: Path) -> list[Path]:
    """The finished repair models that a bench's cells share, in the order of their training."""
    return [path.parent for stage in STAGES for path in sorted(folder.glob(f"shared/{stage}-*/summary.json"))]


def _add_run(data: ReportData, name: str, method: str | None, run: Path, summary: Summary) -> None:
    data.base_accuracy = summary.base_accuracy if data.base_accuracy is None else data.base_accuracy
    if summary.cost:
        data.costs[_free(method or name, name, data.costs)] = summary.cost
    if summary.factors:
        audits, reviews = run / "audits.jsonl", run / "reviews.jsonl"
        agreement = run_agreement(audits, reviews) if audits.is_file() and reviews.is_file() else None
        data.factors[name] = summary.factors.model_copy(update={"agreement": agreement} if agreement else {})
    data.configs[name] = read_text(run / "config.yaml")
    recipe = parse_mapping(data.configs[name], str(run / "config.yaml"))
    if (kind := kind_of(recipe)) and (measured := readings(iterate_rows(run / "metrics.jsonl"), kind)):
        data.health[name] = measured
    if recipe.get("kind") == "evaluate" and method is None:
        method = f"{run.name} ({recipe.get('model')})"
    if (run / "versions.json").is_file():
        data.versions = data.versions or read_json(run / "versions.json")
    _add_method(data, method or run.name, run, recipe, measured=bool(summary.method or summary.model))
    if note := _note(recipe, run, summary):
        data.notes.append(f"{run}: {note}")


def _repair_figures(summaries: dict[Path, Summary]) -> RepairFigures | None:
    """The stages of repair runs, in the order given. Each stage starts where the stage before it ended."""
    figures = RepairFigures()
    for run, summary in summaries.items():
        if summary.after is None:
            continue
        if summary.before and not figures.stages:
            figures.stages.append(summary.before.model_copy(update={"name": "start"}))
        stage = STAGES.get(run.name.rpartition("-")[0], run.name)
        names = [figure.name for figure in figures.stages]
        named = {"name": run.name if stage in names else stage}
        seconds = {"cpu_seconds": summary.cpu_seconds, "gpu_seconds": summary.gpu_seconds}
        figures.stages.append(summary.after.model_copy(update=named | seconds))
        figures.oracle_edit_cost = summary.after.oracle_edit_cost
    return figures if figures.stages else None


def _note(recipe: dict[str, Any], run: Path, summary: Summary) -> str | None:
    """Why a run has no result on the page; None for one that has, and for the parts of a bench."""
    kind = recipe.get("kind")
    if kind not in ("train", "evaluate", "repair-sft", "repair-rl", "repair-check"):
        return None
    if not (run / "summary.json").is_file():
        step = max((row.step for row in _metrics(run)), default=0)
        return f"unfinished, at step {step}. The same command continues it."
    if kind == "repair-check":
        sentence = read_json(run / "summary.json").get("sentence", "")
        return f"it has a page of its own, {run / 'repair_check.html'}. {sentence}"
    if kind in ("train", "evaluate"):
        if read_json(run / "summary.json").get("accuracy") is not None:
            return None
        if kind == "train" and recipe.get("data") and not recipe.get("test_data"):
            return "no held-out accuracy, because it had no test_data."
        return "no held-out accuracy, because no answer was judged."
    if summary.after is not None or summary.factors is not None:
        return None
    trained = f"trained on {summary.examples} repaired answers, " if summary.examples else ""
    return f"{trained}not measured, because data names other questions than the embedded ones."


def _metrics(run: Path) -> Iterator[RewardPoint]:
    path = run / "metrics.jsonl"
    return (_checked(RewardPoint, row, f"{path}, row {number}") for number, row in enumerate(iterate_rows(path), 1))


def _reward_curve(run: Path) -> list[tuple[int, float]]:
    """Steps and rewards. Of many steps, neighbouring ones are one point, at the last of them, with their mean."""
    steps, rewards = array("q"), array("d")
    for row in _metrics(run):
        if row.reward is not None:
            steps.append(row.step)
            rewards.append(row.reward)
    size = -(-len(rewards) // POINTS)
    parts = [slice(start, start + size) for start in range(0, len(rewards), size or 1)]
    return [(steps[part][-1], sum(rewards[part]) / len(rewards[part])) for part in parts]


def _add_method(data: ReportData, method: str, run: Path, recipe: dict[str, Any], measured: bool) -> None:
    """The result of a run that was evaluated, and its curve: of its accuracy, or else of its reward."""
    name = _free(method, f"{method} ({run.name})", data.methods)
    path = run / "summary.json"
    if measured and (values := read_json(path)).get("accuracy") is not None:
        data.methods[name] = _checked(MethodResult, values, str(path))
    points = [
        _checked(CurvePoint, row, f"{run / 'metrics.jsonl'}, row {number}")
        for number, row in enumerate(iterate_rows(run / "metrics.jsonl"), 1)
        if row.get("accuracy") is not None
    ]
    if len(points) > 1:
        data.curves.append(Curve(name=name, points=points))
    elif recipe.get("kind") == "train" and len(rewards := _reward_curve(run)) > 1:
        data.rewards[_free(name, f"{name} ({run.name})", data.rewards)] = rewards


def _summary(run: Path) -> Summary:
    path = run / "summary.json"
    return _checked(Summary, read_json(path), str(path)) if path.is_file() else Summary()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder. Raises `DataError` when the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}): repeat the command that wrote the file.") from None
    if not isinstance(value, dict):
        raise DataError(
            f"{path}: expected a JSON object, found {type(value).__name__}: repeat the command that wrote the file."
        )
    return value


def _checked(model: type[M], values: Any, place: str) -> M:
    try:
        read = model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{place}: {field}: {first['msg'].removeprefix('Value error, ')}.") from None
    if model is not Example and _is_vast(read.model_dump()):  # an example's numbers are drawn against its largest one
        raise DataError(f"{place}: a number is larger than {LARGEST:.0e}, and cannot be drawn: mend the file.")
    return read


def _is_vast(value: Any) -> bool:
    """Whether a number in it is so large that sums and squares of such numbers overflow."""
    if isinstance(value, Mapping):
        return any(map(_is_vast, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_is_vast, value))
    return isinstance(value, int | float) and abs(value) > LARGEST


def _free(name: str, fuller: str, taken: dict[str, Any]) -> str:
    """The first that is not taken yet: `name`, `fuller`, or `fuller` with a number."""
    if name not in taken:
        return name
    number, candidate = 2, fuller
    while candidate in taken:
        candidate, number = f"{fuller} {number}", number + 1
    return candidate
