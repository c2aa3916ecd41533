"""Every metric that the project logs, by what a user wants to know."""

from collections.abc import Iterator

from difference_feedback.report.metrics.cost import COST
from difference_feedback.report.metrics.learning import LEARNING
from difference_feedback.report.metrics.masks import MASKS
from difference_feedback.report.metrics.metric import Kind, Metric
from difference_feedback.report.metrics.peers import PEERS
from difference_feedback.report.metrics.preferences import PREFERENCES
from difference_feedback.report.metrics.repair_model import REPAIR_MODEL
from difference_feedback.report.metrics.repairs import REPAIRS
from difference_feedback.report.metrics.rows import ROWS
from difference_feedback.report.metrics.stability import STABILITY
from difference_feedback.report.metrics.verl_own import VERL_OWN

TOPICS = (LEARNING, REPAIRS, MASKS, ROWS, STABILITY, REPAIR_MODEL, PREFERENCES, PEERS, COST, VERL_OWN)


def metrics_of(kind: Kind) -> Iterator[Metric]:
    """The metrics that a kind of run logs."""
    for topic in TOPICS:
        yield from (metric for metric in topic.metrics if kind in metric.kinds)


def metric_of(name: str, kind: Kind) -> Metric | None:
    """What a name in a run's log is; None for one that is not described."""
    return next((metric for metric in metrics_of(kind) if metric.pattern.fullmatch(name)), None)
