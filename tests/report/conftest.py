"""A demo's folder as the commands write it, with real problems, images, alignments and error positions."""

import json
import re
from pathlib import Path

import pytest

from difference_feedback import world
from difference_feedback.data.image_files import data_url, png_bytes
from difference_feedback.method.alignment import align
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import DemoRecipe, TrainRecipe


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


def fill_training(run: Run, method: str, curve: list[float], seconds: float, before: float = 0.0) -> None:
    for i, accuracy in enumerate(curve):
        spent = before + seconds * i / (len(curve) - 1)
        interval = [accuracy - 0.05, accuracy + 0.05]
        run.log(step=25 * i, cpu_seconds=spent, accuracy=accuracy, interval=interval)
        run.log(step=25 * i + 1, cpu_seconds=spent, reward=0.5)
    cost = {
        "base_seconds": 0.61,
        "wrong_share": 0.42,
        "num_repairs": 1,
        "repair_seconds": 0.35,
        "measured_seconds": 0.77,
        "stages": {"rollout": 0.33, "repair": 0.15, "align": 0.004, "update": 0.28},
    }
    run.finish(
        {"method": method, "accuracy": curve[-1], "steps": 25 * len(curve), "cpu_seconds": seconds, "cost": cost}
    )


@pytest.fixture
def demo_folder(tmp_path: Path) -> Path:
    recipe = DemoRecipe()
    run = Run(tmp_path / "demo", recipe)
    fill_training(run.child("grpo", recipe.grpo), "grpo", [0.52, 0.57, 0.61, 0.65, 0.66, 0.68], 150)
    fill_training(run.child("df_grpo", recipe.df_grpo), "df-grpo", [0.52, 0.61, 0.68, 0.72, 0.75], 110, 40.3)
    problems = world.sample_problems("rl", 12, seed=3)
    rows = [example(problem, number) for number, problem in enumerate(problems, 1)]
    (run.folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [problem.task for problem in problems[:6]]
    run.finish(
        {
            "base_accuracy": 0.52,
            "upper_bound": 0.89,
            "repair": {
                "oracle_edit_cost": 0.16,
                "stages": [
                    {"name": "start", "accuracy": 0.21, "feasible": 0.3, "edit_cost": 0.31},
                    {"name": "SFT", "accuracy": 0.66, "feasible": 0.74, "edit_cost": 0.18, "cpu_seconds": 28.4},
                    {"name": "RL", "accuracy": 0.75, "feasible": 0.81, "edit_cost": 0.17, "cpu_seconds": 11.9},
                ],
            },
            "methods": {
                "grpo": {
                    "accuracy": 0.68,
                    "interval": [0.63, 0.73],
                    "problems": 300,
                    "steps": 150,
                    "cpu_seconds": 150.0,
                    "tasks": dict(zip(names, [0.55, 0.71, 0.64, 0.8, 0.7, 0.68], strict=True)),
                },
                "df-grpo": {
                    "accuracy": 0.75,
                    "interval": [0.70, 0.80],
                    "problems": 300,
                    "steps": 125,
                    "cpu_seconds": 150.3,
                    "setup_cpu_seconds": 40.3,
                    "tasks": dict(zip(names, [0.66, 0.8, 0.7, 0.83, 0.77, 0.74], strict=True)),
                },
            },
        }
    )
    return run.folder


@pytest.fixture
def training_folder(tmp_path: Path) -> Path:
    run = Run(tmp_path / "single", TrainRecipe(method="grpo"))
    fill_training(run, "grpo", [0.5, 0.6], 20)
    return run.folder
