"""The results of a bench as they are kept: one JSON object a cell, appended as it ends.

method, label, group    the method, by its name in the plan, as tables call it, and the question it belongs to
tasks, seed, settings   the cell; `settings` are swept ones
hash                    of everything that shapes the result; a plan's cell is done when a row has its hash
budget_cpu_seconds      what was allowed
accuracy, problems      at the end, on `problems` held-out problems; `by_task`: of each task
cpu_seconds             processor time of all that is billed; `setup_cpu_seconds` of it before the first update
work                    floating-point operations `forward` and `backward`, and `generated_tokens`
curve                   [cpu_seconds, accuracy, problems] of every measurement on the way
entropy                 of the policy, nats a token, over its first and its last ten updates
kl_from_start           nats a token
masks                   the gate against the known errors (`mask_figures`), over thirds of training and in all
cost                    `method.cost.CostTerms` in processor seconds; null for a run that repairs nothing
versions, machine       with what, and on what, it was run
"""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from difference_feedback.runs.jsonl import read_rows

ResultRow = dict[str, Any]


def load_results(path: Path) -> list[ResultRow]:
    """The rows of a results file; of two with the same hash, the later. A last line that was cut off is left out."""
    return list({row["hash"]: row for row in read_rows(path)}.values())


def mask_figures(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Precision, recall and F1 of the gate's tokens against those that state a wrong value, and what else is known.

    `metrics` are the rows of a run's metrics.jsonl. Returned are the figures of the whole run (`all`) and of its first,
    second and last third (`thirds`); None for a run without a gate.
    """
    rows = [row for row in metrics if row.get("mask/drafts")]
    if not rows:
        return None
    ends = [round(i * len(rows) / 3) for i in range(4)]
    thirds = [_figures(rows[a:b]) for a, b in pairwise(ends)]
    return {"all": _figures(rows), "thirds": thirds}


def _figures(rows: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    rows = list(rows)
    names = ("drafts", "tokens", "weight", "errors", "marked", "hits", "first_hits")
    sums = {name: sum(row[f"mask/{name}"] for row in rows) for name in names}
    if not sums["drafts"]:
        return None
    precision = sums["hits"] / sums["marked"] if sums["marked"] else 0.0
    return {
        "precision": precision,
        "recall": sums["hits"] / sums["errors"],
        "f1": 2 * sums["hits"] / (sums["marked"] + sums["errors"]),
        "first_error": sums["first_hits"] / sums["drafts"],
        "density": sums["weight"] / sums["tokens"],
        "drafts": sums["drafts"],
    }


def machine() -> dict[str, Any]:
    """The processor that results are tied to, as far as the system says."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system()}
