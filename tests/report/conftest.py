"""A demo's folder as the commands write it, with real problems, images, alignments and error positions."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from difference_feedback import world
from difference_feedback.bench.cells import cells_of
from difference_feedback.data.image_files import data_url, png_bytes
from difference_feedback.method.alignment import align
from difference_feedback.method.cost import Counts, Spent
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import JsonLines
from difference_feedback.runs.loading import fingerprint, load_recipe
from difference_feedback.runs.recipes import BenchRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe


def spoil(text: str) -> str:
    """A wrong answer: the middle number and the last number are raised by one."""
    numbers = list(re.finditer(r"\d+", text))
    for match in {
        numbers[len(numbers) // 2].start(): numbers[len(numbers) // 2],
        numbers[-1].start(): numbers[-1],
    }.values():
        text = (
            text[: match.start()]
            + str((int(match[0]) + 1) % 10 ** len(match[0])).zfill(len(match[0]))
            + text[match.end() :]
        )
    return text


def tokens_of(text: str) -> list[str]:
    return [*re.findall(r"\s*\S+", text), "<|im_end|>"]


def example(problem: world.Problem, number: int) -> dict:
    right = world.correct_answers(problem)[0]
    wrong = spoil(right)
    source, target = tokens_of(wrong), tokens_of(right)
    ids = {token: i for i, token in enumerate(dict.fromkeys(source + target))}
    alignment = align([ids[t] for t in source], [ids[t] for t in target])
    spans = world.error_spans(problem, wrong) or []
    starts = [sum(map(len, source[:i])) for i in range(len(source))]

    def flags(only_root: bool) -> list[bool]:
        return [
            any(s.start < start + len(t) and s.end > start and (s.root or not only_root) for s in spans)
            for start, t in zip(starts, source, strict=True)
        ]

    return {
        "id": str(number),
        "task": problem.task,
        "question": problem.question,
        "images": [data_url(png_bytes(image)) for image in problem.images],
        "answer": problem.answer,
        "reference": world.correct_answers(problem)[-1],
        "edit_cost": alignment.distance / max(len(source), len(target)),
        "wrong": {
            "tokens": source,
            "mask": alignment.source_mask.tolist(),
            "advantages": [-0.97 * float(m) for m in alignment.source_mask],
            "advantage": -0.97,
            "errors": flags(False),
            "roots": flags(True),
            "reward": 0.0,
        },
        "repair": {
            "tokens": target,
            "mask": alignment.target_mask.tolist(),
            "advantages": [0.97 * float(m) for m in alignment.target_mask],
            "advantage": 0.97,
            "reward": 1.0,
        },
    }


def fill_training(
    run: Run,
    method: str,
    curve: list[float],
    cpu_seconds: float,
    before: float = 0.0,
    results: dict[str, Any] | None = None,
) -> None:
    for i, accuracy in enumerate(curve):
        so_far = before + cpu_seconds * i / (len(curve) - 1)
        interval = [accuracy - 0.05, accuracy + 0.05]
        run.log(step=25 * i, cpu_seconds=so_far, accuracy=accuracy, interval=interval)
        run.log(step=25 * i + 1, cpu_seconds=so_far, reward=0.5)
    seconds = {"rollout": 0.33, "repair": 0.15, "align": 0.004, "update": 0.28, "total": 0.77}
    spent = Spent({"wall": seconds, "cpu": seconds}, Counts(answers=32, judged=32, wrong=13, repaired=13), steps=1)
    cost = {clock: terms.to_dict() for clock, terms in spent.terms(num_repairs=1).items()}
    figures = {"cpu_seconds": before + cpu_seconds, "setup_cpu_seconds": before, "cost": cost}
    run.finish({"method": method, "accuracy": curve[-1], "steps": 25 * len(curve), **figures, **(results or {})})


@pytest.fixture
def demo_folder(tmp_path: Path) -> Path:
    plan = load_recipe("demo", BenchRecipe)
    run = Run(tmp_path / "demo", plan)
    cells = {cell.method: cell for cell in cells_of(plan)}
    curves = {"grpo": [0.52, 0.57, 0.61, 0.65, 0.66, 0.68], "df_grpo": [0.52, 0.61, 0.68, 0.72, 0.75]}
    shares = {"grpo": [0.55, 0.71, 0.64, 0.8, 0.7, 0.68], "df_grpo": [0.66, 0.8, 0.7, 0.83, 0.77, 0.74]}
    problems = world.sample_problems("rl", 12, seed=3)
    for name, accuracy in {"supervised": 0.89, "df_grpo": 0.75, "grpo": 0.68, "base": 0.52}.items():
        cell, method = cells[name], plan.methods[name]
        if name in curves:
            part = Run(run.folder / "cells" / cell.name, cell.parts["train"])
            setup = 40.3 if name == "df_grpo" else 0.0
            tasks = dict(zip([problem.task for problem in problems[:6]], shares[name], strict=True))
            results = {"tasks": tasks, "problems": 300, "interval": [accuracy - 0.05, accuracy + 0.05]}
            fill_training(part, cell.parts["train"].method, curves[name], 150.0 - setup, setup, results)
        row = {"method": name, "label": method.label, "hash": cell.hash, "settings": {}, "accuracy": accuracy}
        JsonLines(run.folder / "results.jsonl").append(row)
    quality = [
        {"accuracy_at_1": right, "feasible_share": right + 0.08, "edit_cost": cost, "oracle_edit_cost": 0.16}
        for right, cost in ((0.21, 0.31), (0.66, 0.18), (0.75, 0.17))
    ]
    for i, (name, recipe) in enumerate({"repair_sft": RepairSFTRecipe(), "repair_rl": RepairRLRecipe()}.items()):
        summary = {"before": quality[i], "after": quality[i + 1], "cpu_seconds": (28.4, 11.9)[i]}
        Run(run.folder / "shared" / f"{name}-{fingerprint(recipe)}", recipe).finish(summary)
    rows = [example(problem, number) for number, problem in enumerate(problems, 1)]
    (run.folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.finish({"accuracies": {}})
    return run.folder


@pytest.fixture
def training_folder(tmp_path: Path) -> Path:
    run = Run(tmp_path / "single", TrainRecipe(method="grpo"))
    fill_training(run, "grpo", [0.5, 0.6], 20)
    return run.folder
