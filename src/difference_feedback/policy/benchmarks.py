"""A model's scores on public benchmarks: lmms-eval asks, the model answers here, and both sides score.

A folder holds one run for each task, so that a finished task is not run again:

TASK/config.yaml       the recipe, for this task alone
TASK/requests.jsonl    what the harness asks, with the row's own columns; its images are in TASK/images until the end
TASK/answers.jsonl     the answers so far; an interrupted run goes on after them
TASK/predictions.jsonl for each row its id, response, extracted answer, verdict and rule
TASK/summary.json      the scores; see `report.data.BenchmarkScore`
harness.log            what the harness prints
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.errors import ConfigError
from difference_feedback.judges.benchmark_rules import grade_by
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.models.load import load_model
from difference_feedback.models.processor import context_of, load_config
from difference_feedback.models.ranks import ranks, say_idle_devices
from difference_feedback.policy.benchmark_answers import answer_requests, longest_answer
from difference_feedback.policy.evaluation import cut_off_note
from difference_feedback.policy.harness import Harness, check_judge, find_harness
from difference_feedback.policy.harness_worker import ANSWERS, IMAGES, REQUESTS
from difference_feedback.runs.check import check
from difference_feedback.runs.first_rank import is_first_rank, on_first_rank
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.runs.lock import check_free
from difference_feedback.runs.model_folder import place_of
from difference_feedback.runs.recipes import BenchmarksRecipe
from difference_feedback.runs.serving import serving

Ask = Callable[..., dict[str, Any]]
"""`Harness.ask` on the first rank, for all ranks."""
NAMES = {
    "mathvista": "mathvista_testmini_cot",
    "mmstar": "mmstar",
    "mmmu": "mmmu_val",
    "mathverse": "mathverse_testmini",
    "mathvision": "mathvision_test",
    "ai2d": "ai2d",
}
"""The paper's six benchmarks -> the harness's tasks that are meant: those with public answers, and with reasoning where
there is a choice."""
DATA_SETS = {
    "AI4Math/MathVista": "mathvista",
    "Lin-Chen/MMStar": "mmstar",
    "lmms-lab/MMMU": "mmmu",
    "lmms-lab-encoder/MMMU": "mmmu",
    "CaraJ/MathVerse-lmmseval": "mathverse",
    "MathLLMs/MathVision": "mathvision",
    "lmms-lab/ai2d": "ai2d",
    "lmms-lab-encoder/ai2d": "ai2d",
}
"""Data set of a task -> the benchmark whose answer rule is `judges.benchmark_rules`'."""
_PATIENCE = timedelta(hours=24)  # of the other ranks, while the first one loads data or scores


@dataclass(frozen=True)
class MeasuredModel:
    """A model to measure, and the folder for its results."""

    model: str
    folder: Path


def place_for(name: str) -> MeasuredModel:
    """What `evaluate MODEL` names: a run's folder, a model, a checkpoint or an adapter below one, or any other model.

    Results stand in the run's own folder, so that a report of the run shows them; those of other models in
    `runs/benchmarks`. Raises `ConfigError` for a run without a model.
    """
    path = Path(name).expanduser()
    if (path / "config.yaml").is_file() and (path / "versions.json").is_file():
        if not (path / "model").is_dir():
            newest = max((path / "checkpoints").glob("checkpoint-*"), default=None, key=lambda p: p.stat().st_mtime)
            checkpoint = f" Or name a checkpoint: {newest}." if newest else ""
            raise ConfigError(f"{name}: this run has no model yet. Finish it by its own command.{checkpoint}")
        return MeasuredModel(str(path / "model"), path / "benchmarks")
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if path.is_dir() and (run / "versions.json").is_file():
        of_checkpoint = f"-{path.name}" if path.parent != run else ""
        return MeasuredModel(name, run / f"benchmarks{of_checkpoint}")
    return MeasuredModel(name, Path("runs") / "benchmarks" / place_of(name).strip("/.~").replace("/", "--"))


def run_benchmarks(
    recipe: BenchmarksRecipe, folder: Path, console: Console, *, python: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Run the tasks of a recipe that are not finished in `folder`; the folders of all its tasks, in order.

    `python` has the harness; see `find_harness`. All ranks make this call: each holds the whole model and answers its
    share; the first one asks the harness, scores and writes.

    Raises:
        ConfigError: as `runs.check.check`, `find_harness`, `Harness.ask` and `Run`.
        DataError: a task's data cannot be loaded, or a server gives no answer.
    """
    finished = [folder / NAMES.get(name, name) for name in recipe.tasks]
    if not overwrite and all((path / "summary.json").is_file() for path in finished):
        runs = [Run(path, _alone(recipe, path.name, name)) for path, name in zip(finished, recipe.tasks, strict=True)]
        return [run.folder for run in runs]
    if is_first_rank():
        for path in finished:
            check_free(path)
    check(recipe)
    context = context_of(recipe.model)
    if context is not None and (recipe.max_new_tokens or 0) >= context:
        raise ConfigError(
            f"max_new_tokens: {recipe.max_new_tokens} leave no room for a prompt in the model's context, which is "
            f"{context}: lower it."
        )
    found = on_first_rank(lambda: list(find_harness(python)))
    with ExitStack() as stack:
        worker = None
        if is_first_rank():
            worker = stack.enter_context(Harness(found[0], folder / "harness.log", recipe.judge))

        def ask(do: str, **values: Any) -> dict[str, Any]:
            return on_first_rank(lambda: worker.ask(do, **values) if worker else {}, _PATIENCE)

        if recipe.judge is not None:
            judge = recipe.judge
            on_first_rank(lambda: check_judge(judge))
        tasks = [(task, Run(folder / task.name, task.recipe, overwrite=overwrite)) for task in _tasks(recipe, ask)]
        pending = [(task, run) for task, run in tasks if not run.finished]
        model_type = load_config(recipe.model).model_type
        for task, run in pending:
            _say(console, f"{task.name}: loading {task.data or task.dataset}")
            settings = {"data": task.data, "model_type": model_type, "limit": recipe.limit}
            ask("load", task=task.name, folder=str(run.folder), **settings)
        if pending:
            with _answerer(recipe, folder, unanswered=any(_is_unanswered(run) for _, run in pending)) as model:
                for task, run in pending:
                    _finish(task, run, model, ask, found[1], console)
    return [run.folder for _, run in tasks]


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of the harness, and the recipe that runs it alone. `benchmark`: the one whose answer rule it has."""

    name: str
    dataset: str
    benchmark: str | None
    recipe: BenchmarksRecipe

    @property
    def data(self) -> str | None:
        """The local copy of its data."""
        return self.recipe.data.get(self.name)


def _alone(recipe: BenchmarksRecipe, task: str, name: str) -> BenchmarksRecipe:
    """The recipe of one task; `name` is what the user calls it, or the group that it is in."""
    data = recipe.data.get(task) or recipe.data.get(name)
    copy = {task: str(Path(data).expanduser().absolute())} if data else {}
    return recipe.model_copy(update={"tasks": [task], "data": copy})


def _tasks(recipe: BenchmarksRecipe, ask: Ask) -> list[BenchmarkTask]:
    called = {NAMES.get(name, name): name for name in recipe.tasks}
    tasks = []
    for entry in ask("names", names=list(called))["tasks"]:
        name, dataset = entry["task"], entry["dataset"]
        benchmark = DATA_SETS.get(dataset) or ("ai2d" if name == "ai2d_lite" else None)
        tasks.append(BenchmarkTask(name, dataset, benchmark, _alone(recipe, name, called[entry["name"]])))
    unused = set(recipe.data) - set(recipe.tasks) - {task.name for task in tasks}
    if unused:
        raise ConfigError(f"data.{min(unused)}: no such task is run here: name one of {', '.join(recipe.tasks)}.")
    return tasks


def _is_unanswered(run: Run) -> bool:
    return len(read_rows(run.folder / ANSWERS)) < len(read_rows(run.folder / REQUESTS))


@contextmanager
def _answerer(recipe: BenchmarksRecipe, folder: Path, unanswered: bool) -> Iterator[tuple[Any, Any] | None]:
    """The model and its processor; None where nothing is left to answer."""
    if not unanswered:
        yield None
        return
    if recipe.endpoint is None:
        say_idle_devices()
        model, processor = load_model(recipe.model, dtype=recipe.dtype, attention=recipe.attention, whole=True)
        yield model.to(ranks().device), processor
        return
    pixels = max(recipe.endpoint.max_pixels, recipe.max_pixels)
    endpoint = recipe.endpoint.model_copy(update={"model": recipe.endpoint.model or recipe.model, "max_pixels": pixels})
    with serving({"endpoint": endpoint} if endpoint.serve else {}, folder):
        served = ServedModel(endpoint, recipe.model)
        yield served, served.processor
        ranks().wait_for_everyone()


def _finish(
    task: BenchmarkTask, run: Run, model: tuple[Any, Any] | None, ask: Ask, version: str, console: Console
) -> None:
    """Answer what is not answered yet, score, and finish the run."""
    start = time.monotonic()
    requests = read_rows(run.folder / REQUESTS)
    if model is not None:
        answer_requests(task.recipe, run.folder, requests, *model)
    harness = ask("score", task=task.name, folder=str(run.folder), limit=task.recipe.limit)
    if not is_first_rank():
        return
    answers = {row["key"]: row for row in read_rows(run.folder / ANSWERS)}
    rows = [_prediction(task, request, answers[request["key"]], harness) for request in requests]
    write_jsonl(run.folder / "predictions.jsonl", rows)
    summary = _summary(task, rows, harness, version)
    shutil.rmtree(run.folder / IMAGES, ignore_errors=True)
    run.finish(summary | {"wall_seconds": time.monotonic() - start})
    if summary["cut_off"]:
        source = "" if task.recipe.max_new_tokens else ", which the task sets"
        limit = f"{longest_answer(task.recipe, requests[0])} tokens{source}"
        if note := cut_off_note(summary["cut_off"], len(rows), limit, "max_new_tokens"):
            _say(console, f"{task.name}: {note}")


def _prediction(
    task: BenchmarkTask, request: Mapping[str, Any], answer: Mapping[str, Any], harness: Mapping[str, Any]
) -> dict[str, Any]:
    """A row of predictions.jsonl. `correct` and `extracted` are by `rule`, which is the benchmark's own."""
    parts = [part.get("text", "<image>") for message in request["conversation"] for part in message["content"]]
    row: dict[str, Any] = {
        "id": request["id"],
        "doc_id": request["doc_id"],
        "task": task.name,
        "question": "\n".join(parts),
        "answer": request["target"],
        "response": answer["response"],
    }
    if task.benchmark is not None and not harness.get("no_answers"):
        grading = grade_by(task.benchmark, answer["response"], request["row"])
        row |= {"extracted": grading.extracted, "correct": grading.correct, "rule": grading.rule}
    row["harness_correct"] = harness.get("rows", {}).get(str(request["doc_id"]))
    return row | {"cut_off": answer["cut_off"], "not_asked": answer["not_asked"]}


def _summary(
    task: BenchmarkTask, rows: Sequence[Mapping[str, Any]], harness: Mapping[str, Any], version: str
) -> dict[str, Any]:
    """The scores of a task, as shares of 1."""
    summary: dict[str, Any] = {
        "task": task.name,
        "benchmark": task.benchmark,
        "model": task.recipe.model,
        "problems": len(rows),
        "cut_off": sum(row["cut_off"] for row in rows),
        "not_asked": sum(row["not_asked"] is not None for row in rows),
        "harness": f"lmms-eval {version}",
        "harness_metric": harness.get("metric"),
        "harness_value": harness.get("value"),
        "harness_left_out": harness.get("left_out"),
        "harness_metrics": harness.get("all", {}),
        "judge": task.recipe.judge.model if task.recipe.judge else None,
    }
    summary["harness_score"] = score = as_share(harness)
    if score is not None:
        summary["harness_interval"] = list(wilson_interval(round(score * len(rows)), len(rows)))
    judged = [row["correct"] for row in rows if row.get("correct") is not None]
    if task.benchmark is not None and judged:
        right = sum(judged)
        summary |= {"score": right / len(judged), "interval": list(wilson_interval(right, len(judged)))}
        summary |= {"right": right, "unjudged": len(rows) - len(judged), "rule": task.benchmark}
    return summary


def as_share(harness: Mapping[str, Any]) -> float | None:
    """The harness's value as a share of 1, though some tasks give percent; None for a measure that is neither.

    Where it is the mean of the verdicts on the rows, up to the harness's rounding, it is that mean. Else a value of at
    most 1 is a share, and a larger one is percent if there are verdicts on the rows.
    """
    value, rows = harness.get("value"), list(harness.get("rows", {}).values())
    if value is None or value < 0:
        return None
    if rows:
        mean = sum(rows) / len(rows)
        if min(abs(value - mean), abs(value / 100 - mean)) < 1e-3:
            return float(mean)
    if value <= 1:
        return float(value)
    return float(value) / 100 if rows and value <= 100 else None


def _say(console: Console, text: str) -> None:
    if is_first_rank():
        console.print(text, markup=False, highlight=False)
