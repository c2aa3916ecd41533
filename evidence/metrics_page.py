"""The list of metrics in docs/reference/metrics.md, from the registry that the report reads, too."""

from difference_feedback.report.metrics.metric import KINDS, UNKNOWN, Metric, Topic
from difference_feedback.report.metrics.registry import TOPICS


def metrics_list() -> str:
    """Every metric, by what a user wants to know."""
    return "\n".join(_section(topic) for topic in TOPICS).strip()


def _section(topic: Topic) -> str:
    entries = "\n".join(map(_entry, topic.metrics))
    return f"## {topic.question}\n\n{topic.lead}\n\n{entries}\n"


def _entry(metric: Metric) -> str:
    """The metric's name, unit and hosts in one line, and what it is, its range and the remedy below it."""
    logged = ", ".join(KINDS[kind] for kind in metric.kinds)
    condition = f"; {metric.when}" if metric.when else ""
    lines = [f"- **`{metric.name}`** ({metric.unit}; {logged}{condition})", f"    - {metric.text}"]
    lines.append(f"    - {metric.healthy}" if metric.healthy == UNKNOWN else f"    - *Healthy:* {metric.healthy}")
    return "\n".join([*lines, f"    - *If not:* {metric.remedy}"] if metric.remedy else lines)
