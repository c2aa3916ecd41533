"""Collect the data of the page from run folders, and check every file against the schema in `report.data`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from difference_feedback.errors import DataError
from difference_feedback.report.data import (
    AgreementFigures,
    Curve,
    CurvePoint,
    Example,
    MethodResult,
    RepairFigures,
    ReportData,
    Summary,
)
from difference_feedback.runs.folder import read_rows

M = TypeVar("M", bound=BaseModel)
NAMES = {"grpo": "GRPO", "df-grpo": "DF-GRPO"}


def load_report(folders: Sequence[Path]) -> ReportData:
    """Collect the runs in `folders` and directly below them.

    Raises `DataError` when a folder holds no run, or a file does not follow the schema; it names file, row and field.
    """
    data = ReportData(title=", ".join(folder.resolve().name for folder in folders))
    all_summaries: dict[Path, Summary] = {}
    for folder in folders:
        if not (folder / "config.yaml").is_file():
            raise DataError(f"{folder} holds no run, since it has no config.yaml: give a folder that a command wrote.")
        runs = [folder, *sorted(p.parent for p in folder.glob("*/config.yaml"))]
        summaries = {run: _summary(run) for run in runs}
        for run in runs:
            name = run.name if run == folder else f"{folder.name}/{run.name}"
            _add_run(data, name, run, summaries[run])
        _add_methods(data, folder, summaries)
        all_summaries.update(summaries)
    data.repair = data.repair or _repair_figures(all_summaries)
    return data


def _add_run(data: ReportData, name: str, run: Path, summary: Summary) -> None:
    data.base_accuracy = summary.base_accuracy if data.base_accuracy is None else data.base_accuracy
    data.upper_bound = summary.upper_bound if data.upper_bound is None else data.upper_bound
    data.repair = data.repair or summary.repair
    if summary.cost:
        method = NAMES.get(summary.method or "", name)
        data.costs[_free(method, name, data.costs)] = summary.cost
    if summary.factors:
        agreement = _agreement(run)
        data.factors[name] = summary.factors.model_copy(update={"agreement": agreement} if agreement else {})
    data.examples += [
        _checked(Example, row, f"{run / 'examples.jsonl'}, row {number}")
        for number, row in enumerate(read_rows(run / "examples.jsonl"), 1)
    ]
    data.configs[name] = (run / "config.yaml").read_text(encoding="utf-8")
    if (run / "versions.json").is_file():
        data.versions = data.versions or read_json(run / "versions.json")


def _agreement(run: Path) -> AgreementFigures | None:
    """Agreement of the run's audits with its reviews; None when there are no reviews."""
    audits, reviews = run / "audits.jsonl", run / "reviews.jsonl"
    if not (audits.is_file() and reviews.is_file()):
        return None
    from difference_feedback.judges.agreement import run_agreement

    agreement = run_agreement(audits, reviews)
    return AgreementFigures.model_validate(asdict(agreement)) if agreement else None


def _repair_figures(summaries: dict[Path, Summary]) -> RepairFigures | None:
    """The stages of repair runs, in the order given. Each stage starts where the stage before it ended."""
    figures = RepairFigures()
    for run, summary in summaries.items():
        if summary.after is None:
            continue
        if summary.before and not figures.stages:
            figures.stages.append(summary.before.stage("start"))
        figures.stages.append(summary.after.stage(run.name, summary.cpu_seconds))
        figures.oracle_edit_cost = summary.after.oracle_edit_cost
    return figures if figures.stages else None


def _add_methods(data: ReportData, folder: Path, summaries: dict[Path, Summary]) -> None:
    """Add results and curves: those of the folder's own `methods` if it has them, else those of each training run."""
    if summaries[folder].methods:
        methods: list[tuple[str, Path, MethodResult | None]] = [
            (name, folder / (result.folder or name.lower().replace("-", "_")), result)
            for name, result in summaries[folder].methods.items()
        ]
    else:
        methods = [
            (summary.method or run.name, run, _result_of(run) if summary.method else None)
            for run, summary in summaries.items()
        ]
    for method, run, result in methods:
        method = NAMES.get(method, method)
        name = _free(method, f"{method} ({run.name})", data.methods)
        if result:
            data.methods[name] = result
        points = [
            _checked(CurvePoint, row, f"{run / 'metrics.jsonl'}, row {number}")
            for number, row in enumerate(read_rows(run / "metrics.jsonl"), 1)
            if row.get("accuracy") is not None
        ]
        if len(points) > 1:
            data.curves.append(Curve(name=name, points=points))


def _summary(run: Path) -> Summary:
    path = run / "summary.json"
    return _checked(Summary, read_json(path), str(path)) if path.is_file() else Summary()


def _result_of(run: Path) -> MethodResult | None:
    """The result of a training run; None when it was not evaluated."""
    values = read_json(run / "summary.json")
    return _checked(MethodResult, values, str(run / "summary.json")) if "accuracy" in values else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a run folder. Raises `DataError` when the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}): repeat the command that wrote the file.") from None
    if not isinstance(value, dict):
        raise DataError(
            f"{path}: expected a JSON object, found {type(value).__name__}: repeat the command that wrote the file."
        )
    return value


def _checked(model: type[M], values: Any, place: str) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{place}: {field}: {first['msg'].removeprefix('Value error, ')}.") from None


def _free(name: str, fuller: str, taken: dict[str, Any]) -> str:
    """The first that is not taken yet: `name`, `fuller`, or `fuller` with a number."""
    if name not in taken:
        return name
    number, candidate = 2, fuller
    while candidate in taken:
        candidate, number = f"{fuller} {number}", number + 1
    return candidate
