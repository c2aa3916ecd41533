"""The tables of docs/hosts.md and its picture, from results/hosts.json alone."""

import statistics
from itertools import groupby
from typing import Any

WINDOW = 10  # steps that a point of a curve averages
COLOURS = {"GRPO": "#5b7cb0", "DF-GRPO": "#c05a3c", "PPO": "#7a8f4d", "DF-PPO": "#8a5aa0"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 320, 56, 40, 16


def hosts_table(rows: list[dict[str, Any]]) -> str:
    """A row a cell: method and host."""
    steps = len(rows[0]["rewards"])
    lines = [
        f"![Reward of the policy's answers over {steps} steps, by host and method](images/hosts.svg)\n",
        "| | held-out accuracy, % | reward, last 20 steps, % | seconds a step | of which | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for cell, group in _by_cell(rows):
        late = [100 * statistics.mean(row["rewards"][-20:]) for row in group]
        accuracy = [100 * row["accuracy"]["accuracy"] for row in group]
        seconds = statistics.mean(row["step_seconds"] for row in group)
        stages = ", ".join(
            f"{name} {statistics.mean(row['stages'][name] for row in group) / seconds:.0%}"
            for name in group[0]["stages"]
        )
        memory = max(row["peak_gib"] for row in group)
        lines.append(f"| {cell} | {_spread(accuracy)} | {_spread(late)} | {seconds:.1f} | {stages} | {memory:.1f} |")
    seeds = sorted({row["seed"] for row in rows})
    lines.append(
        f"\nMean over the seeds ({', '.join(map(str, seeds))}), in brackets each; {steps} steps; 1,500 held-out "
        "problems, so that each accuracy is uncertain by 2.4 points (95 %) besides. Memory is the proportional set "
        "size of all the run's processes. The machine was shared: seconds compare stages within a row, not rows."
    )
    return "\n".join(lines)


def _by_cell(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    order = list(dict.fromkeys(row["cell"] for row in rows))
    ordered = sorted(rows, key=lambda row: (order.index(row["cell"]), row["seed"]))
    return [(cell, list(group)) for cell, group in groupby(ordered, key=lambda row: row["cell"])]


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def hosts_picture(rows: list[dict[str, Any]]) -> str:
    """Running means of the reward: TRL's curves solid, verl's dashed, a line a seed."""
    steps = max(len(row["rewards"]) for row in rows)
    curves = [(row["cell"], _running_mean(row["rewards"])) for row in rows]
    low = min(min(curve) for _, curve in curves) - 0.02
    high = max(max(curve) for _, curve in curves) + 0.02

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 150) * step / steps

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    tick = 0.05 if high - low < 0.5 else 0.1
    value = tick * round(low / tick + 0.5)
    while value < high:
        parts.append(f'<line x1="{LEFT}" x2="{x(steps)}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0%}</text>')
        value += tick
    for step in range(0, steps + 1, 10):
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{x(steps / 2):.0f}" y="{HEIGHT - 6}" text-anchor="middle">step (mean of {WINDOW})</text>')
    for cell, curve in curves:
        method, host = cell.split(", ")
        points = " ".join(f"{x(i + WINDOW):.1f},{y(v):.1f}" for i, v in enumerate(curve))
        dash = ' stroke-dasharray="5 3"' if host == "verl" else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[method]}" stroke-width="1.6"{dash}/>')
    for i, (cell, _) in enumerate(_by_cell(rows)):
        method, host = cell.split(", ")
        dash = ' stroke-dasharray="5 3"' if host == "verl" else ""
        height = TOP + 14 + 18 * i
        parts.append(
            f'<line x1="{WIDTH - 140}" x2="{WIDTH - 112}" y1="{height - 4}" y2="{height - 4}" '
            f'stroke="{COLOURS[method]}" stroke-width="1.6"{dash}/><text x="{WIDTH - 106}" y="{height}">{cell}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _running_mean(values: list[float]) -> list[float]:
    return [statistics.mean(values[i : i + WINDOW]) for i in range(len(values) - WINDOW + 1)]
