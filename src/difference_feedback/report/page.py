"""Write one self-contained HTML page from run folders. It loads nothing; a security policy in the page forbids it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from difference_feedback import __version__
from difference_feedback.errors import DataError
from difference_feedback.report.benchmarks import benchmark_table
from difference_feedback.report.chart import learning_chart, reward_chart
from difference_feedback.report.collect import load_report
from difference_feedback.report.data import Example, MethodResult, ReportData, ShownAnswer
from difference_feedback.report.health import about, marked
from difference_feedback.report.page_size import fitting, is_small
from difference_feedback.runs.outputs import write_atomically

HERE = Path(__file__).parent


@dataclass(frozen=True)
class TokenView:
    """A token as drawn: its text, CSS classes, height of its advantage's bar (0..1), tooltip, and line breaks."""

    text: str
    classes: str
    height: float
    title: str
    breaks_before: bool
    breaks_after: bool


@dataclass(frozen=True)
class ExampleView:
    """An example as drawn. `images` are `(data URL, is small)`.

    `unweighted` are the heights of both sides' advantages without weights; 0 if they are unknown.
    """

    example: Example
    images: list[tuple[str, bool]]
    wrong: list[TokenView]
    repair: list[TokenView]
    unweighted: tuple[float, float]


def write_report(run_folders: Sequence[str | Path] | str | Path, output: str | Path | None = None) -> Path:
    """Write the report of one or several run folders (see `report.data` for what is read) and return its path.

    `output` defaults to report.html in the first folder. Raises `DataError` when a folder holds no run, or a file does
    not follow the schema.
    """
    folders = [run_folders] if isinstance(run_folders, str | Path) else list(run_folders)
    if not folders:
        raise DataError("report: there is no run folder: give at least one.")
    return write_page(load_report([Path(folder) for folder in folders]), Path(folders[0]), output)


def write_page(data: ReportData, folder: Path, output: str | Path | None = None) -> Path:
    """Write the report of runs that are loaded, by default to report.html in `folder`, and return its path."""
    path = Path(output) if output else folder / "report.html"
    write_atomically(path, render(data))
    return path


def render(data: ReportData) -> str:
    """The page as HTML. Everything that comes from data is escaped; only the page's own style and script are not."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["signed"] = lambda value: f"{value:+.2f}".replace("-", "−")
    environment.filters["marked"] = marked
    environment.filters["seconds"] = lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    script = (HERE / "script.js").read_text(encoding="utf-8")
    levels = {"upper bound": data.upper_bound, "start": data.base_accuracy}
    shown = fitting(data.examples)
    return environment.get_template("page.html.j2").render(
        data=data,
        chart=learning_chart(data.curves, {name: value for name, value in levels.items() if value is not None}),
        rewards=reward_chart(data.rewards),
        examples=[view(example) for example in shown],
        example_count=max(data.example_count, len(data.examples)),
        benchmarks=benchmark_table(data.benchmarks),
        tasks=sorted({task for result in data.methods.values() for task in result.tasks if task}),
        example_tasks=sorted({example.task for example in shown if example.task}),
        survives=_survivals(data),
        about=about,
        verdict=verdict(data.methods),
        version=__version__,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def verdict(methods: dict[str, MethodResult]) -> str | None:
    """A sentence that compares GRPO and DF-GRPO. A second one follows if their intervals overlap."""
    plain, weighted = methods.get("GRPO"), methods.get("DF-GRPO")
    if plain is None or weighted is None:
        return None
    points = 100 * (weighted.accuracy - plain.accuracy)
    if abs(points) < 0.05:
        text = f"DF-GRPO and GRPO both end at {weighted.accuracy:.1%} of held-out problems"
    else:
        text = f"DF-GRPO ends {abs(points):.1f} points {'above' if points > 0 else 'below'} GRPO on held-out problems"
    by_gpu = plain.gpu_seconds is not None and weighted.gpu_seconds is not None
    spent, base = (result.gpu_seconds if by_gpu else result.cpu_seconds for result in (weighted, plain))
    clock, ratio = "GPU" if by_gpu else "processor", (spent or 0.0) / base if base else 0.0
    if 0.95 <= ratio <= 1.05:
        text += f", at the same {clock} time"
        text += ", the repair model's training included" if weighted.setup_cpu_seconds and not by_gpu else ""
    elif ratio:
        text += f", with {ratio:.2f} times GRPO's {clock} time"
    text += "."
    if (
        plain.interval
        and weighted.interval
        and plain.interval[0] <= weighted.interval[1]
        and weighted.interval[0] <= plain.interval[1]
    ):
        text += " The 95 % intervals overlap, so this run alone does not settle which is better."
    return text


def view(example: Example) -> ExampleView:
    """Prepare an example for the template, with the advantages of both sides on one scale."""
    sides = (example.wrong, example.repair)
    weighted = [abs(a) for side in sides for a in side.advantages or ()]
    unweighted = [abs(side.advantage or 0.0) for side in sides]
    largest = max([*weighted, *unweighted, 1e-12])
    return ExampleView(
        example=example,
        images=[(url, is_small(url)) for url in example.images],
        wrong=_tokens(example.wrong, largest),
        repair=_tokens(example.repair, largest),
        unweighted=(round(unweighted[0] / largest, 3), round(unweighted[1] / largest, 3)),
    )


def _survivals(data: ReportData) -> dict[str, bool]:
    """Whether the repair model's stages have the shares of the visual and of the audit test; the page shows those."""
    stages = data.repair.stages if data.repair else []
    tests = ("visual", "audit")
    return {test: any(getattr(stage, f"{test}_survival") is not None for stage in stages) for test in tests}


def _tokens(side: ShownAnswer, largest: float) -> list[TokenView]:
    views = []
    for position, token in enumerate(side.tokens):
        marked = side.mask[position]
        error = side.errors is not None and side.errors[position]
        root = side.roots is not None and side.roots[position]
        advantage = side.advantages[position] if side.advantages is not None else None
        notes = [f"token {position + 1} of {len(side.tokens)}"]
        notes += ["part of an edit"] if marked else []
        notes += ["wrong, not because of an earlier error" if root else "wrong"] if error or root else []
        notes += [f"weight {side.weights[position]:.2f}"] if side.weights is not None else []
        notes += [f"advantage {advantage:+.3f}"] if advantage is not None else []
        flags = {"m": marked, "e": error or root, "r": root, "neg": (advantage or 0) < 0}
        views.append(
            TokenView(
                text=token.replace("\n", "⏎"),
                classes=" ".join(["t", *(name for name, on in flags.items() if on)]),
                height=round(abs(advantage or 0.0) / largest, 3),
                title=" · ".join(notes),
                breaks_before=token.startswith("\n") and position > 0,
                breaks_after=token.endswith("\n") and not token.startswith("\n"),
            )
        )
    return views
