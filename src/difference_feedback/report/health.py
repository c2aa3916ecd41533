"""How healthy a run was: the metrics that have a range, at its start and at its end. See `report.metrics`."""

import math
import re
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

from difference_feedback.report.data import LARGEST, ShownMetric
from difference_feedback.report.metrics.metric import Kind, Metric
from difference_feedback.report.metrics.registry import metric_of, metrics_of


def kind_of(recipe: Mapping[str, Any]) -> Kind | None:
    """What logs the metrics of a recipe's run; None for a kind that has none with a range."""
    if recipe.get("kind") == "train":
        if recipe.get("host") == "verl":
            return "verl"
        return "df-grpo" if recipe.get("method") == "df-grpo" else "grpo"
    return next((kind for kind in ("repair-sft", "repair-rl") if kind == recipe.get("kind")), None)


def readings(rows: Iterable[Mapping[str, Any]], kind: Kind) -> list[ShownMetric]:
    """The metrics with a range in the rows of a run's metrics.jsonl, in the order of the registry.

    Of a family, those out of range; where none is, the largest one stands for all.
    """
    ranged = [metric for metric in metrics_of(kind) if metric.low is not None or metric.high is not None]
    values: dict[str, array[float]] = {}
    of_name: dict[str, Metric | None] = {}
    for row in rows:
        for name, value in row.items():
            if name not in of_name:
                of_name[name] = next((metric for metric in ranged if metric.pattern.fullmatch(name)), None)
            if of_name[name] is not None and _is_measured(value):
                values.setdefault(name, array("d")).append(value)
    shown = []
    for metric in ranged:
        family = [_reading(metric, name, values[name]) for name in values if of_name[name] is metric]
        outside = [reading for reading in family if reading.problem]
        shown += outside or sorted(family, key=lambda reading: -reading.last)[:1]
    return shown


def _is_measured(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < LARGEST


def _reading(metric: Metric, name: str, values: "array[float]") -> ShownMetric:
    part = -(-len(values) // 5)
    first, last = (math.fsum(few) / len(few) for few in (values[:part], values[-part:]))
    texts = {"text": metric.text, "healthy": metric.healthy, "remedy": metric.remedy}
    return ShownMetric(name=name, first=first, last=last, problem=metric.problem(last), **texts)


def about(name: str, kind: Kind) -> str:
    """What a metric is, as plain text."""
    metric = metric_of(name, kind)
    return "" if metric is None else plain(metric.text)


def plain(text: str) -> str:
    """A text of the registry without its marks."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("`", "")


def marked(text: str) -> Markup:
    """A text of the registry as HTML: names as code, links as their words."""
    words = str(escape(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", words))
