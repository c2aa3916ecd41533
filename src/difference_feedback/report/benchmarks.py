"""The table of benchmarks, as in the paper's Table 1: a row a model, a column a benchmark, their mean, intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from difference_feedback.judges.intervals import mean_interval
from difference_feedback.report.data import BenchmarkScore
from difference_feedback.runs.yaml_text import read_yaml

TITLES = {
    "mathvista": "MathVista",
    "mmstar": "MMStar",
    "mmmu": "MMMU",
    "mathverse": "MathVerse",
    "mathvision": "MathVision",
    "ai2d": "AI2D",
}
"""The paper's benchmarks, in its order."""


@dataclass(frozen=True)
class PublishedScores:
    """A row that others published: scores by benchmark, as shares of 1, and where they stand."""

    name: str
    scores: Mapping[str, float]
    source: str


PAPER = PublishedScores(
    "DF, as published",
    {"mathvista": 0.799, "mmstar": 0.715, "mmmu": 0.748, "mathverse": 0.635, "mathvision": 0.582, "ai2d": 0.878},
    "arXiv 2603.27482, as listed by wizwand.com, which does not say for which model, prompts and judge. The paper's "
    "rows for its base and baseline are not at hand.",
)


@dataclass(frozen=True)
class ScoreCell:
    """A score as text, its interval as text, and what else is known about it."""

    value: str
    interval: str = ""
    note: str = ""


@dataclass(frozen=True)
class TableRow:
    """A model of the table; `cells` has one for each column, the mean's included."""

    name: str
    cells: list[ScoreCell]
    published: bool = False


@dataclass(frozen=True)
class BenchmarkTable:
    """`columns` are the titles, `rules` what each is scored by; the last column is the mean."""

    columns: list[str]
    rules: list[str]
    rows: list[TableRow]
    notes: list[str]


def benchmark_folders(folder: Path) -> list[Path]:
    """The folders with results of benchmarks: those in a run's folder, and the folder itself if it is one."""
    candidates = [folder, *sorted(folder.glob("benchmarks*"))]
    return [path for path in candidates if any(_is_task(task) for task in path.glob("*/config.yaml"))]


def _is_task(config: Path) -> bool:
    values = read_yaml(config)
    return isinstance(values, dict) and values.get("kind") == "benchmarks"


def name_of(folder: Path, scores: Sequence[BenchmarkScore]) -> str:
    """What a folder of benchmarks measured: a run's method and name, or the model."""
    config = folder.parent / "config.yaml"
    if not config.is_file():
        return scores[0].model
    values: Any = read_yaml(config)
    run = folder.parent.name + folder.name.removeprefix("benchmarks").replace("-", ", ", 1)
    if not isinstance(values, dict) or values.get("kind") != "train":
        return run
    objective = str(values.get("objective", "grpo")).upper().replace("_", " ")
    return f"{'DF-' if values.get('method') == 'df-grpo' else ''}{objective} ({run})"


def benchmark_table(models: Mapping[str, Sequence[BenchmarkScore]]) -> BenchmarkTable | None:
    """The scores of several models side by side, with the paper's row where all columns are the paper's.

    A benchmark with several tasks has a column for each of them. The mean is that of models which have all columns.
    """
    if not models:
        return None
    of_task = {score.task: score for scores in models.values() for score in scores}
    order = list(TITLES)
    tasks = sorted(
        of_task, key=lambda task: order.index(name) if (name := of_task[task].benchmark) in order else len(order)
    )
    benchmarks = [of_task[task].benchmark for task in tasks]
    titles = [
        TITLES[name] if name in TITLES and benchmarks.count(name) == 1 else task
        for task, name in zip(tasks, benchmarks, strict=True)
    ]
    rows = [_row(name, {score.task: score for score in scores}, tasks) for name, scores in models.items()]
    notes = []
    by_title = {title: name for title, name in zip(titles, benchmarks, strict=True) if name and title == TITLES[name]}
    if len(by_title) == len(titles):
        values = [PAPER.scores[by_title[title]] for title in titles]
        mean = [ScoreCell(f"{100 * sum(values) / len(values):.1f}")] if len(values) > 1 else []
        rows.append(
            TableRow(PAPER.name, [*(ScoreCell(f"{100 * value:.1f}") for value in values), *mean], published=True)
        )
        notes.append(f"{PAPER.name}: {PAPER.source}")
    several = ["mean"] if len(tasks) > 1 else []
    rules = [_rule(of_task[task]) for task in tasks]
    return BenchmarkTable([*titles, *several], [*rules, *("" for _ in several)], rows, notes)


def _rule(score: BenchmarkScore) -> str:
    if score.score is not None:
        return f"rule of {TITLES[score.rule]}" if score.rule in TITLES else str(score.rule)
    return f"lmms-eval: {score.harness_metric}" if score.harness_metric else ""


def _row(name: str, scores: Mapping[str, BenchmarkScore], tasks: Sequence[str]) -> TableRow:
    cells = [_cell(scores.get(task)) for task in tasks]
    shares = [(score.share, score.problems - score.unjudged) for task in tasks if (score := scores.get(task))]
    known = [(share, count) for share, count in shares if share is not None]
    if len(tasks) < 2:
        return TableRow(name, cells)
    if len(known) < len(tasks):
        return TableRow(name, [*cells, ScoreCell("–", note="not all benchmarks were run")])
    mean = sum(share for share, _ in known) / len(known)
    return TableRow(name, [*cells, ScoreCell(f"{100 * mean:.1f}", _range(mean_interval(known)))])


def _cell(score: BenchmarkScore | None) -> ScoreCell:
    if score is None:
        return ScoreCell("–", note="not run")
    notes = [f"{score.problems} questions"]
    if score.harness_value is not None:
        shown = f"{100 * score.harness_score:.1f} %" if score.harness_score is not None else f"{score.harness_value:g}"
        judged = f" with the judge {score.judge}" if score.judge else ""
        notes.append(f"lmms-eval's own {score.harness_metric}: {shown}{judged}")
    elif score.harness_left_out:
        notes.append(f"lmms-eval's own score is left out: {score.harness_left_out}")
    if score.cut_off:
        notes.append(f"{score.cut_off} answers were cut off at the limit")
    if score.not_asked:
        notes.append(f"{score.not_asked} questions did not fit into the context, and count as wrong")
    if score.share is None:
        value = "–" if score.harness_value is None else f"{score.harness_value:g}"
        return ScoreCell(value, note="; ".join(notes))
    interval = score.interval if score.score is not None else score.harness_interval
    return ScoreCell(f"{100 * score.share:.1f}", _range(interval) if interval else "", "; ".join(notes))


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"


def show_table(table: BenchmarkTable, console: Console) -> None:
    """Print the models side by side, in percent with 95 % intervals."""
    shown = Table(title="Benchmarks, in percent, with 95 % intervals")
    shown.add_column("model")
    for title, rule in zip(table.columns, table.rules, strict=True):
        shown.add_column(Text.assemble(title, (f"\n{rule}" if rule else "", "dim")), justify="right")
    for row in table.rows:
        cells = [
            Text.assemble(cell.value, (f"\n{cell.interval}" if cell.interval else "", "dim")) for cell in row.cells
        ]
        shown.add_row(Text(row.name), *cells, style="italic" if row.published else None)
    console.print(shown)
    for note in table.notes:
        console.print(note, markup=False, highlight=False, style="dim")


def show_scores(scores: Sequence[BenchmarkScore], console: Console) -> None:
    """Print one model's scores, a row a task, by this package's rule and by the harness's own."""
    shown = Table(title=Text(f"{scores[0].model}: benchmarks"))
    for column in ("task", "questions", "score", "95 % interval", "by", "lmms-eval's own", "cut off"):
        text = column in ("task", "by")
        shown.add_column(column, justify="left" if text else "right", no_wrap=column in ("score", "95 % interval"))
    for score in scores:
        interval = score.interval if score.score is not None else score.harness_interval
        own = "" if score.harness_value is None else f"{score.harness_value:g}"
        if score.harness_score is not None:
            own = f"{score.harness_score:.1%}"
        shown.add_row(
            Text(score.task),
            str(score.problems),
            "–" if score.share is None else f"{score.share:.1%}",
            f"{interval[0]:.1%} – {interval[1]:.1%}" if interval else "",
            Text(_rule(score)),
            Text(own or str(score.harness_left_out or "")),
            str(score.cut_off),
        )
    console.print(shown)
