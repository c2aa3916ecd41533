"""Plans and rows of benches that never ran, for tests of the pages."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import study

TASKS = ("chart", "count", "order")
FAIR = ("base", "grpo", "gspo", "df_grpo", "df_gspo", "sibling", "blind_rewriter", "oracle", "supervised")
GAINS = {"grpo": 6.0, "gspo": 6.2, "df_grpo": 4.0, "df_gspo": 6.5, "sibling": 6.1, "blind_rewriter": 9.0}
GAINS |= {"oracle": 14.0, "supervised": 25.0, "base": 0.0}
LABELS = {"grpo": "GRPO", "gspo": "GSPO", "df_grpo": "DF-GRPO", "df_gspo": "DF-GSPO", "base": "base"}


REPAIRS = {"accuracy_at_1": 0.52, "accuracy_at_2": 0.66, "edit_cost": 0.24, "blind_share": 0.2, "audit_survival": 0.4}
REPAIRS |= {"drafts": 120}
"""Of a repair model, as `bench.results.repair_figures` writes them."""


def row(method: str, seed: int, seconds: float = 120.0, gains: Mapping[str, float] = GAINS) -> dict[str, Any]:
    """A row as a bench writes it. Its gain over the start is that of the method, and noise of the seed."""
    rng = np.random.default_rng([seed, *map(ord, method)])
    gain = gains[method] * (seconds / 120) ** 0.2
    by_task = {task: 0.5 + 0.1 * i + (gain + rng.normal(0, 0.7)) / 100 for i, task in enumerate(TASKS)}
    if method == "base":
        by_task = {task: 0.5 + 0.1 * i for i, task in enumerate(TASKS)}
    accuracy = sum(by_task.values()) / len(TASKS)
    trained = method not in ("base", "supervised")
    curve = [[seconds * i / 4, 0.6 + (accuracy - 0.6) * i / 4, 2520 if i == 4 else 420] for i in range(5)]
    cost = {"base": 0.4, "wrong": 28.0, "repaired": 16.0, "num_repairs": 1, "repair": 0.01, "predicted": 0.68}
    return {
        "method": method,
        "label": LABELS.get(method, method.replace("_", " ")),
        "group": "main",
        "tasks": "mixture",
        "seed": seed,
        "settings": {},
        "hash": f"{method}-{seed}-{seconds:.0f}",
        "budget_cpu_seconds": seconds if trained else None,
        "accuracy": accuracy,
        "problems": 2520,
        "by_task": by_task,
        "cpu_seconds": 0.0 if method == "base" else seconds,
        "setup_cpu_seconds": 14.0 if method.startswith("df_") else 0.0,
        "steps": 200 if trained else None,
        "work": {"forward": 1e12, "backward": 1e12, "generated_tokens": 200 * 64 * 28},
        "curve": curve if trained else [],
        "entropy": [0.15, 0.14] if trained else None,
        "kl_from_start": 0.05 if trained else None,
        "masks": None,
        "cost": {**cost, "measured": 0.6} if method.startswith("df_") else None,
    }


def rows_of_plans(names: Sequence[str] = ("dose", "ablations", "edit_cost", "repairs", "peers")) -> dict[str, Any]:
    """Finished rows of the other plans that this package ships, by plan. Degraded repairs gain what the rule says."""
    plans = {f"bench_{name}": study.load_plan(f"bench_{name}") for name in names}
    rows: dict[str, Any] = {}
    for name, plan in plans.items():
        if plan is None:
            continue
        gains = {method: GAINS.get(method, 5.0) for method in plan.methods}
        for method in plan.methods:
            if shares := re.fullmatch(r"oracle_(\d+)_(\d+)", method):
                right, clean = (int(share) / 100 for share in shares.groups())
                gains[method] = GAINS["grpo"] - 3 + 2 * right + 7 * right * clean
        rows[name] = [
            {**row(method, seed, 300.0, gains), "repairs": REPAIRS if plan.methods[method].repair_model else None}
            for method, of in plan.methods.items()
            for seed in (plan.seeds if of.kind != "base" else plan.seeds[:1])
        ]
    return rows


def kept_with(folder: Path, plans: Mapping[str, Sequence[Mapping[str, Any]]]) -> study.Kept:
    """The kept results of today, but those of the plans that are still measured: these have the given rows."""
    for path in study.RESULTS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("fair", "fair_long", "tune", "dose", "ablations", "edit_cost", "repairs", "peers"):
        rows = plans.get(f"bench_{name}", [])
        text = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"bench_{name}.jsonl").write_text(text, encoding="utf-8")
    return study.Kept(folder)
