"""What the kept results of one plan say: its finished methods, and their figures as numbers and in words."""

import json
import statistics
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from difference_feedback.bench.evidence import evidence, finished_methods
from difference_feedback.bench.results import ResultRow, load_results
from difference_feedback.bench.tables import interval, points
from difference_feedback.errors import ConfigError
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import BenchRecipe

RESULTS = Path(__file__).parent / "results"
Pair = dict[str, Any]
"""A comparison, as `bench.evidence.evidence` returns it."""


def to_json(values: Any) -> str:
    """The text of a file of values."""
    return json.dumps(values, indent=1) + "\n"


@cache
def load_plan(name: str) -> BenchRecipe | None:
    """The shipped plan of that name, or None."""
    try:
        return load_recipe(name, BenchRecipe)
    except ConfigError:
        return None


class Kept:
    """The folder of kept results. A file that does not exist is empty."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder

    def rows(self, plan: str) -> list[ResultRow]:
        """The cells of a bench."""
        return load_results(self.folder / f"{plan}.jsonl")

    def values(self, name: str) -> Any:
        """What a script of this folder wrote."""
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def write(self, name: str, values: Any) -> None:
        """Keep what a script measured."""
        (self.folder / f"{name}.json").write_text(to_json(values), encoding="utf-8")

    def add(self, name: str, label: str, values: Any) -> None:
        """Keep what a script measured under a label, beside what it kept under others."""
        before = self.values(name) if (self.folder / f"{name}.json").is_file() else {}
        self.write(name, before | {label: values})

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The measures of the speed benchmark."""
        return [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


class Study:
    """The finished methods of one plan, in its order.

    A method is finished when all seeds of the plan are done; the base needs one run, since all seeds share it. With
    `partial`, every method with a result counts: so are the plans shown that nobody will finish.

    Differences are in points, paired by seed, with the 95 % interval of the paired t-test.
    """

    def __init__(self, name: str, rows: Sequence[ResultRow], *, partial: bool = False) -> None:
        self.name, self.plan = name, load_plan(name)
        self.rows: list[ResultRow] = []
        self._pairs: dict[tuple[str, str], Pair | None] = {}
        self.wanted, self.done = 0, 0
        if self.plan is None:
            return
        methods, seeds = self.plan.methods, set(self.plan.seeds)
        of_method = {name: [row for row in rows if row["method"] == name and not row["settings"]] for name in methods}
        has = {name: {row["seed"] for row in of_method[name]} for name in methods}
        trained = [name for name in methods if methods[name].kind != "base"]
        self.wanted, self.done = len(seeds), sum(all(seed in has[name] for name in trained) for seed in seeds)
        for method, of in of_method.items():
            cells = {(row["seed"], row["tasks"]) for row in of}
            assert len(cells) == len(of), f"{name}: two results of one cell of {method}: keep one"
        whole = [row for of in of_method.values() for row in sorted(of, key=lambda row: row["seed"])]
        self.rows = whole if partial else finished_methods(whole, self.plan)[0]
        self.started = any(has[name] for name in trained)

    started = False

    @property
    def methods(self) -> list[str]:
        """The finished methods."""
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def finished(self) -> bool:
        return 0 < self.wanted == self.done

    @property
    def state(self) -> str:
        """One sentence about a plan that is not finished; nothing about one that is."""
        if self.finished:
            return ""
        if not self.started:
            return f"Results of `{self.name}` are not here yet; {self.command} makes them."
        return f"`{self.name}` is unfinished, with {self.done} of {self.wanted} seeds done; {self.command} goes on."

    @property
    def command(self) -> str:
        """What runs the plan, or goes on with it."""
        return f"`difference-feedback bench {self.name}`"

    @property
    def shown(self) -> bool:
        """Whether there is something to compare: two finished methods beside the base."""
        return len(set(self.methods) - {"base"}) > 1

    def has(self, *methods: str) -> bool:
        """Whether these methods are finished."""
        return set(methods) <= set(self.methods)

    def of(self, method: str) -> list[ResultRow]:
        """The rows of a method, a row a seed."""
        return [row for row in self.rows if row["method"] == method]

    def label(self, method: str) -> str:
        return self.of(method)[0]["label"]

    def mean(self, method: str, key: str) -> float | None:
        """The mean over seeds of a figure of the rows; None where a row lacks it."""
        values = [row.get(key) for row in self.of(method)]
        return None if None in values else statistics.mean(values)

    def accuracy(self, method: str) -> str:
        return f"{100 * statistics.mean(row['accuracy'] for row in self.of(method)):.1f} %"

    @property
    def seconds(self) -> str:
        """The processor time that a method may spend."""
        return f"{self.plan.budget_cpu_seconds:.0f}" if self.plan else ""

    @property
    def title(self) -> str:
        return f"{self.seconds} CPU seconds, plan `{self.name}`" if self.plan else f"Plan `{self.name}`"

    @property
    def problems(self) -> str:
        return f"{self.rows[0]['problems']:,}"

    @property
    def tasks(self) -> list[str]:
        return list(self.rows[0]["by_task"])

    @cached_property
    def figures(self) -> dict[str, Any]:
        """`bench.evidence.evidence` of the finished methods, without comparisons."""
        return evidence(self.rows, {})["methods"]

    def pair(self, method: str, against: str) -> Pair | None:
        """The comparison of two methods; None unless both are finished and share a seed."""
        key = (method, against)
        if key not in self._pairs:
            rows = [row for row in self.rows if row["method"] in {method, against, "base"}]
            both = self.has(method, against) and method != against
            compared = evidence(rows, {method: [against]})["comparisons"] if both else []
            self._pairs[key] = compared[0] if compared else None
        return self._pairs[key]

    def points(self, method: str, against: str) -> str:
        """`+2.3`; empty where the two cannot be compared."""
        pair = self.pair(method, against)
        return "" if pair is None else points(pair["difference"])

    def interval(self, method: str, against: str) -> str:
        """`+0.5 to +4.1`; empty without an interval."""
        pair = self.pair(method, against)
        return "" if pair is None else interval(pair)

    def difference(self, method: str, against: str) -> str:
        """`+2.3 (+0.5 to +4.1)`."""
        bounds = self.interval(method, against)
        return self.points(method, against) + (f" ({bounds})" if bounds else "")

    def outcome(self, method: str, against: str) -> int:
        """1 or -1 if the whole interval is above or below 0; 0 for no measurable difference."""
        pair = self.pair(method, against)
        return 0 if pair is None or pair["low"] is None else int(pair["low"] > 0) - int(pair["high"] < 0)

    def side(self, method: str, against: str) -> str:
        """`2.3 points above`, or `level with`, to be read before the other method's name."""
        pair = self.pair(method, against)
        assert pair is not None, (self.name, method, against)
        gap = abs(round(100 * pair["difference"], 1))
        return f"{gap} points {'above' if pair['difference'] > 0 else 'below'}" if gap else "level with"

    def ends(self, method: str, against: str, name: str | None = None) -> str:
        """`2.3 points above GRPO (+0.5 to +4.1)`, to be read after "ends"; `name` replaces the other's label."""
        bounds = self.interval(method, against)
        none = "" if self.outcome(method, against) or not bounds else ", no measurable difference"
        place = f"{self.side(method, against)} {name or self.label(against)}"
        return f"{place} ({bounds + none if bounds else 'one seed'})"

    def sorted_out(self, against: str) -> str:
        """One sentence on which finished methods differ measurably from another, and which do not."""
        others = [method for method in self.methods if method != "base" and self.pair(method, against)]
        differ, alike = ([m for m in others if bool(self.outcome(m, against)) == wanted] for wanted in (True, False))
        parts = [f"{self.label(method)} ({self.points(method, against)})" for method in differ]
        first = f"Measurably different from {self.label(against)}: {'; '.join(parts) or 'none'}."
        return f"{first} No measurable difference: {'; '.join(map(self.label, alike)) or 'none'}."


def verdict(outcomes: Sequence[int]) -> str:
    """What several comparisons of the same kind say together, to be read after a subject in the singular."""
    words = {
        (1,): "pays",
        (-1,): "costs points",
        (0,): "makes no measurable difference",
        (0, 1): "pays in some runs and makes no measurable difference in the others",
        (-1, 0): "costs points in some runs and makes no measurable difference in the others",
        (-1, 1): "pays in some runs and costs points in others",
        (-1, 0, 1): "pays in some runs and costs points in others",
        (): "is not measured yet",
    }
    return words[tuple(sorted(set(outcomes)))]
