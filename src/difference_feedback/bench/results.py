"""The results of a bench: one JSON object for each cell, appended when the cell ends.

method, label, group    the method: its name in the plan, its name in tables, and its group
tasks, seed, settings   the cell; `settings` are the swept settings
hash                    of everything that shapes the result; a plan's cell is done when a row has its hash
budget_cpu_seconds      the processor time that the cell may spend
accuracy, problems      accuracy at the end, on `problems` held-out problems; `by_task`: accuracy of each task
cpu_seconds             processor time of all that counts; `setup_cpu_seconds` is its part before the first update
work                    floating-point operations `forward` and `backward`, and `generated_tokens`
curve                   [cpu_seconds, accuracy, problems] of every measurement
entropy                 of the policy, in nats a token: means over its first and its last ten updates
kl_from_start           KL divergence from the base, in nats a token
masks                   how well the weighted tokens match the known errors: see `mask_figures`
cost                    `method.cost.CostTerms` in processor seconds; null for a run that repairs nothing
repairs                 of the cell's own repair model on held-out drafts: see `repair_figures`; null without one
versions, machine       the packages, and the machine
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import read_rows, to_json

ResultRow = dict[str, Any]


def load_results(path: Path) -> list[ResultRow]:
    """The rows of a results file. If two have the same hash, the later one counts. A cut-off last line is left out.

    Raises `DataError` for a row without a hash, and as `read_rows`.
    """
    rows = read_rows(path)
    for row in rows:
        if "hash" not in row:
            raise DataError(f'{path}: a row has no "hash", so no bench wrote it: {to_json(row)[:80]}. Remove it.')
    return list({row["hash"]: row for row in rows}.values())


def mask_figures(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How well the tokens with a weight match the tokens that state a wrong value: precision, recall, F1 and density.

    `metrics` are the rows of a run's metrics.jsonl. The result has the figures of the whole run (`all`) and of its
    first, second and last third (`thirds`). It is None for a run without weights.
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


REPAIR_FIGURES = ("accuracy_at_1", "accuracy_at_2", "edit_cost", "blind_share", "audit_survival", "drafts")


def repair_figures(folder: Path) -> dict[str, float | None] | None:
    """What the last stage of a repair model's training, a run in `folder`, measured after it. None: nothing.

    `accuracy_at_1` and `accuracy_at_2` (right repairs with one and with two samples), `edit_cost`, `blind_share` and
    `audit_survival` are those of `repair.quality.RepairQuality`, on its held-out `drafts`.
    """
    after = json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("after")
    return after and {name: after.get(name) for name in REPAIR_FIGURES}


def machine() -> dict[str, Any]:
    """The processor and the system that the results were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system()}
