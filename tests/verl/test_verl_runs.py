"""Real runs of verl on the CPU: Ray, FSDP2, the nano base with its images, and a repair model. `make test-verl`."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file

from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.method.objectives import surrogate_loss
from difference_feedback.report.collect import load_report
from difference_feedback.report.metrics.registry import metric_of
from difference_feedback.report.page import write_report
from difference_feedback.runs.sections import EvaluationSettings
from difference_feedback.world import sample_problems

pytest.importorskip("verl", reason="verl has an environment of its own")
pytestmark = [pytest.mark.verl, pytest.mark.slow]

MAIN = "difference_feedback.verl.main_df"
REPAIRS = (
    *("+difference_feedback.repair_model=nano", "+difference_feedback.style=nano"),
    "+difference_feedback.num_repairs=4",  # so that every batch has a pair
)
GRPO = ("algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean")
GSPO = (
    *(*GRPO, "actor_rollout_ref.actor.policy_loss.loss_mode=gspo"),
    *("actor_rollout_ref.actor.clip_ratio_low=3e-4", "actor_rollout_ref.actor.clip_ratio_high=4e-4"),
)
DAPO = ("algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.loss_agg_mode=token-mean")
PPO = ("algorithm.adv_estimator=gae", "actor_rollout_ref.actor.loss_agg_mode=token-mean")
ANSWERS = 16  # of four prompts


def train(
    folder: Path, *changes: str, repairs: tuple[str, ...] = REPAIRS, **sizes: int
) -> tuple[list[dict[str, Any]], list[dict[str, torch.Tensor]]]:
    """The metrics of a run's steps, and the tensors of each as its update read them."""
    dump = folder / "dump"
    rows, _ = runs.run(MAIN, folder, *repairs, f"+difference_feedback.dump={dump}", *changes, **sizes)
    check_names(rows)
    return rows, [load_file(dump / f"step_{row['step']}.safetensors") for row in rows]


def check_names(rows: list[dict[str, Any]]) -> None:
    """docs/reference/metrics.md describes all that is logged."""
    assert not {name for row in rows for name in row if metric_of(name, "verl") is None}


def check_loss(row: dict[str, Any], tensors: dict[str, torch.Tensor], objective: str) -> None:
    """verl's loss is the specification's. At the first update of a batch every ratio is 1."""
    logps, mask = tensors["old_log_probs"], tensors["response_mask"]
    expected = surrogate_loss(logps, logps, tensors["advantages"], tensors["weights"], mask, objective)
    assert row["actor/pg_loss"] == pytest.approx(float(expected), abs=2e-6), objective


@pytest.mark.parametrize(
    ("name", "changes", "objective"), [("grpo", GRPO, "grpo"), ("gspo", GSPO, "gspo"), ("dapo", DAPO, "dapo")]
)
def test_pairs_stand_for_the_group(tmp_path: Path, name: str, changes: tuple[str, ...], objective: str) -> None:
    rows, dumped = train(tmp_path / name, *changes)
    assert [row["step"] for row in rows] == [1, 2]
    for row, tensors in zip(rows, dumped, strict=True):
        real = tensors["response_mask"].sum(1) > 0
        assert row["df/answers"] == ANSWERS
        assert 0 < row["df/pairs"] <= row["df/requested"] <= row["df/wrong"] < ANSWERS
        assert row["df/rows"] == real.sum() == 2 * row["df/pairs"]
        assert tensors["is_repair"][real].sum() == row["df/pairs"]
        assert row["df/weighted_tokens"] == (tensors["weights"] > 0).sum()
        assert 0 < row["df/weight_density"] < 0.7
        assert (tensors["weights"][~real] == 0).all()
        # Right answers have left, repairs have come: half of G' is right.
        assert row["critic/score/mean"] == pytest.approx(0.5)
        assert row["df/reward_of_answers"] == pytest.approx(1 - row["df/wrong"] / ANSWERS)
        assert row["df/probs_diff_max"] < 1e-5
        assert row["actor/grad_norm"] > 0
        check_loss(row, tensors, objective)


def test_siblings_stand_for_repairs_without_a_repair_model(tmp_path: Path) -> None:
    siblings = ("+difference_feedback.sibling_repairs=true", "+difference_feedback.num_repairs=0")
    rows, dumped = train(tmp_path / "siblings", *GRPO, repairs=siblings)
    assert sum(row["df/pairs"] for row in rows) > 0
    for row, tensors in zip(rows, dumped, strict=True):
        assert 0 <= row["df/pairs"] <= row["df/requested"]
        assert row["df/refused"] == 0
        assert row["df/rows"] == 2 * row["df/pairs"] == 2 * tensors["is_repair"].sum()
        assert row["critic/score/mean"] == pytest.approx(0.5)
        check_loss(row, tensors, "grpo")


def test_repairs_are_sifted_and_an_ablation_takes_the_masks_place(tmp_path: Path) -> None:
    floor = 0.02
    limits = ("+difference_feedback.max_edit_cost=0.6", f"+difference_feedback.min_probability={floor}")
    rows, dumped = train(tmp_path / "sifted", *GRPO, *limits, "+difference_feedback.weights=repair_only")
    assert sum(row["df/implausible"] for row in rows) > 0
    assert sum(row["df/pairs"] for row in rows) > 0
    for row, tensors in zip(rows, dumped, strict=True):
        is_repair, mask = tensors["is_repair"], tensors["response_mask"]
        assert row["df/pairs"] == is_repair.sum()
        assert row["df/rows"] == (mask.sum(1) > 0).sum() == 2 * row["df/pairs"]
        lowest = (tensors["old_log_probs"] * mask).amin(1).exp()
        assert (lowest[is_repair] >= floor * 0.999).all()
        assert row.get("df/edit_cost", 0) <= 0.6
        assert (tensors["weights"][~is_repair] == 0).all()
        assert (tensors["weights"][is_repair].sum(1) > 0).all()
        check_loss(row, tensors, "grpo")


def test_ppo_keeps_its_answers_and_weighs_the_wrong_ones(tmp_path: Path) -> None:
    rows, dumped = train(tmp_path / "ppo", *PPO)
    for row, tensors in zip(rows, dumped, strict=True):
        assert row["df/rows"] == row["df/answers"] == ANSWERS
        assert not tensors["is_repair"].any()
        mask = tensors["response_mask"]
        whole = (tensors["weights"] == mask).all(1)
        silent = (tensors["weights"] == 0).all(1)
        assert whole.sum() >= ANSWERS - row["df/wrong"]
        assert silent.sum() == row["df/wrong"] - row["df/pairs"]
        assert (~whole & ~silent).sum() <= row["df/pairs"]
        assert row["critic/grad_norm"] > 0
        assert row["df/probs_diff_max"] < 1e-5
        check_loss(row, tensors, "ppo")


def test_unjudged_answers_leave_the_batch(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(
        "from difference_feedback.verl.reward import compute_score as rule\n"
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):\n"
        "    unjudged = {'score': 0.0, 'acc': 0.0, 'unjudged': 1.0} if len(solution_str) % 3 == 0 else {}\n"
        "    return rule(data_source, solution_str, ground_truth, extra_info) | unjudged\n"
    )
    path = f"reward.custom_reward_function.path={tmp_path / 'rewards.py'}"
    rows, dumped = train(tmp_path / "unjudged", *GRPO, path, "+difference_feedback.regroup=false")
    assert sum(row["df/unjudged"] for row in rows) > 0
    for row, tensors in zip(rows, dumped, strict=True):
        judged = row["df/answers"] - row["df/unjudged"]
        assert row["df/answers"] == ANSWERS
        assert row["df/rows"] == judged == (tensors["response_mask"].sum(1) > 0).sum()
        assert row["critic/score/mean"] == pytest.approx(1 - row["df/wrong"] / judged)
        # Rows that stand in for those that left have no weights, and count in verl's mean over rows, as in TRL's.
        row["actor/pg_loss"] *= ANSWERS / judged
        check_loss(row, tensors, "grpo")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, dumped = train(tmp_path / "whole", *GRPO, steps=3)
    folder = tmp_path / "parts"
    train(folder, *GRPO, "trainer.save_freq=1", steps=2)
    resumed, again = train(folder, *GRPO, "trainer.resume_mode=auto", steps=3)
    assert [row["step"] for row in resumed] == [3]
    for name in ("df/pairs", "df/wrong", "df/weighted_tokens", "df/edit_cost", "df/reward_of_answers"):
        assert resumed[0][name] == pytest.approx(whole[2][name]), name
    for name in ("actor/pg_loss", "actor/grad_norm"):
        assert resumed[0][name] == pytest.approx(whole[2][name], rel=1e-3, abs=1e-6), name
    for name in ("weights", "advantages", "old_log_probs"):  # rows come in any order
        first, second = (sorted(tensors[name].sum(1).tolist()) for tensors in (dumped[2], again[0]))
        assert first == pytest.approx(second, abs=1e-3), name


def harness(folder: Path) -> dict[str, Any]:
    """What a recipe needs under `verl:` for a small run on the CPU; the other settings are translated from its keys."""
    translated = {
        *("data.train_files", "data.val_files", "data.train_batch_size", "data.max_response_length"),
        *("actor_rollout_ref.model.path", "actor_rollout_ref.rollout.n", "actor_rollout_ref.actor.optim.lr"),
        *("actor_rollout_ref.actor.ppo_mini_batch_size", "reward.custom_reward_function.path"),
        *("trainer.default_local_dir", "trainer.total_training_steps", "trainer.resume_mode", "trainer.logger"),
        *("trainer.val_before_train", "trainer.test_freq"),
    }
    settings = dict(line.split("=", 1) for line in runs.settings(folder))
    return {key: yaml.safe_load(value) for key, value in settings.items() if key not in translated}


def test_a_train_recipe_runs_on_verl_as_on_trl(tmp_path: Path) -> None:
    """`difference-feedback train RECIPE host=verl`: the recipe's keys as verl's, the harness under `verl:`."""
    recipe = {
        **{"kind": "train", "method": "df-grpo", "model": "nano", "repair_model": "nano", "repairs": {"style": "nano"}},
        **{"problems": 16, "evaluation": {"problems": 4}, "objective": "dapo"},
        "trl": {
            **{"num_generations": 4, "per_device_train_batch_size": 16, "max_steps": 2, "learning_rate": 1e-3},
            **{"max_completion_length": runs.MAX_TOKENS, "num_repairs": 1, "root_cause": True, "epsilon_high": 0.3},
        },
        # Always given, so that right is right as by the embedded checker alone.
        "reward": {"embedded": 0.9, f"{tmp_path / 'rewards.py'}:prompted": 0.1},
        "verl": harness(tmp_path / "run"),
    }
    (tmp_path / "rewards.py").write_text(
        "def prompted(prompts, completion_ids, task, **_):\n"
        "    rows = zip(prompts, completion_ids, task, strict=True)\n"
        "    return [float('<image>' in p[0]['content'] and len(ids) > 0 and bool(t)) for p, ids, t in rows]\n"
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    output = tmp_path / "output"
    command = ["train", str(tmp_path / "recipe.yaml"), "host=verl", "--output", str(output)]
    runs.execute([sys.executable, "-m", "difference_feedback.cli", *command], tmp_path / "run")
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["method"], summary["host"], summary["objective"], summary["steps"]) == (
        "df-grpo",
        "verl",
        "dapo",
        2,
    )
    start, *rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    check_names([start, *rows])
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["df/answers"] == 16 and 0 <= row["reward"] <= 1 for row in rows)
    assert sum(row["df/pairs"] for row in rows) > 0
    assert all(row["df/weight_density"] < 0.2 for row in rows), "the root cause is a few tokens"

    # Held-out accuracy, by verl's own validation.
    predictions = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    right = sum(prediction["correct"] for prediction in predictions)
    assert (summary["problems"], summary["accuracy"]) == (4, right / 4)
    assert summary["interval"] == list(wilson_interval(right, 4))
    test = sample_problems("test", 4, EvaluationSettings().seed)
    assert set(summary["tasks"]) == {problem.task for problem in test}
    assert sorted((p["task"], p["answer"]) for p in predictions) == sorted((p.task, p.answer) for p in test)
    assert (start["step"], start["accuracy"]) == (0, summary["base_accuracy"])
    assert (rows[-1]["accuracy"], rows[-1]["val-core/rewards/acc/mean@1"]) == (summary["accuracy"], right / 4)

    # Cost, by the wall clock alone.
    assert summary["cpu_seconds"] is None
    assert summary["wall_seconds"] == rows[-1]["wall_seconds"] == sum(row["timing_s/step"] for row in rows)
    (wall,) = summary["cost"].values()
    assert wall == summary["cost"]["wall"]
    assert (wall["answers"], wall["num_repairs"]) == (16, 1)
    assert wall["wrong"] == sum(row["df/wrong"] for row in rows) / 2
    assert wall["measured"] == summary["wall_seconds"] / 2
    assert all(seconds > 0 for seconds in wall["stages"].values())
    assert 0.8 * wall["measured"] < sum(wall["stages"].values()) <= wall["measured"]

    data = load_report([output])
    assert data.methods["DF-GRPO"].accuracy == summary["accuracy"]
    assert [point.step for point in data.curves[0].points] == [0, 2]
    assert data.costs["DF-GRPO"]["wall"].to_dict() == wall
    assert "wall seconds" in write_report(output).read_text(encoding="utf-8")


def test_ones_own_questions_with_any_number_of_images_train_on_verl(tmp_path: Path) -> None:
    """Files that need a conversion, several images at their marks, and a question without an image."""
    rows: list[dict[str, Any]] = []
    for i, problem in enumerate(sample_problems("rl", 8, seed=3)):
        names = [f"{i}-{k}.png" for k in range(i % 4 and 1 + i % 2)]
        for name in names:
            problem.images[0].convert("RGBA" if i % 2 else "RGB").save(tmp_path / name)
        question = f"see <image2> and <image1> : {problem.question}" if len(names) == 2 else problem.question
        rows.append({"question": question, "image": names, "answer": problem.answer, "level": {"n": [i]}})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rewards.py").write_text(
        "def even(completions, level, **_):\n"
        "    rows = zip(completions, level, strict=True)\n"
        "    return [float(len(c[0]['content']) % 2 == 0 and l['n'][0] >= 0) for c, l in rows]\n"
    )
    recipe = {
        **{"kind": "train", "method": "df-grpo", "model": "nano", "repair_model": "nano", "repairs": {"style": "nano"}},
        **{"data": {"path": str(tmp_path / "own.jsonl")}, "reward": f"{tmp_path / 'rewards.py'}:even"},
        "trl": {
            **{"num_generations": 4, "per_device_train_batch_size": 32, "max_steps": 1, "learning_rate": 1e-3},
            **{"max_completion_length": runs.MAX_TOKENS, "num_repairs": 2},
        },
        "verl": harness(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    output = tmp_path / "output"
    command = ["train", str(tmp_path / "recipe.yaml"), "host=verl", "--output", str(output)]
    runs.execute([sys.executable, "-m", "difference_feedback.cli", *command], tmp_path / "run")
    assert "bytes" not in Dataset.from_parquet(str(output / "train.parquet")).features["images"].feature
    [row] = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert row["df/answers"] == 32
    assert 0 < row["df/pairs"] <= row["df/wrong"] < 32
    assert row["actor/grad_norm"] > 0
