"""Peers to compare with: numbers against loops in numpy, limits, exact resume, and what PRIME's reward model learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl_world
from trl_world import ScriptedRollouts, first_batch, plain_logps, weights_of

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.trl import ExactResume
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.peers import ARGRPOConfig, ARGRPOTrainer, PRIMEConfig, PRIMETrainer
from difference_feedback.trl.peers.advantage_reweighting import reweighted
from difference_feedback.trl.peers.prime_advantages import (
    in_range,
    leave_one_out,
    ordered_share,
    prime_advantages,
    prm_loss,
)

PLAIN = {"kind": ExactResume, "config_kind": LeanGRPOConfig}
AR = {"kind": ARGRPOTrainer, "config_kind": ARGRPOConfig}
PRIME = {"kind": PRIMETrainer, "config_kind": PRIMEConfig, "prm_learning_rate": 1e-3}


class ScriptedPRIME(ScriptedRollouts, PRIMETrainer):
    """PRIME on answers that do not depend on the policy."""


class LeaveOneOut(ExactResume):
    """REINFORCE with a leave-one-out baseline: the reward minus the mean of the siblings' rewards."""

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)
        self.outcomes = rewards[:, 0].tolist()
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch, size = super()._generate_and_score_completions(inputs), self.num_generations
        advantages = []
        for i, reward in enumerate(self.outcomes):
            group = self.outcomes[i // size * size : (i // size + 1) * size]
            advantages.append(reward - (sum(group) - reward) / (size - 1))
        return batch | {"advantages": torch.tensor(advantages)}


def slow_prime(
    logps: np.ndarray,
    reference: np.ndarray,
    mask: np.ndarray,
    outcomes: list[float],
    size: int,
    beta: float,
    gamma: float,
) -> np.ndarray:
    """Eqs. 3 and 5, sum by sum."""
    rewards = beta * (logps - reference)
    lengths = mask.sum(axis=1).astype(int)
    result = np.zeros_like(rewards)
    for i, length in enumerate(lengths):
        siblings = [j for j in range(i // size * size, (i // size + 1) * size) if j != i]
        baseline = np.mean([rewards[j, : lengths[j]].mean() for j in siblings])
        outcome = outcomes[i] - np.mean([outcomes[j] for j in siblings])
        for t in range(length):
            returns = sum(gamma ** (s - t) * (rewards[i, s] - baseline) for s in range(t, length))
            result[i, t] = returns + outcome
    return result


def test_prime_advantages_and_loss_are_those_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    logps, reference = rng.normal(-1, 1, (8, 6)), rng.normal(-1, 1, (8, 6))
    mask = (np.arange(6) < rng.integers(1, 7, (8, 1))).astype(float)
    outcomes = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    rewards = torch.tensor(0.05 * (logps - reference) * mask)
    right, means = torch.tensor(outcomes, dtype=torch.float64), rewards.sum(1) / torch.tensor(mask).sum(1)
    actual = prime_advantages(
        rewards, torch.tensor(mask), leave_one_out(means, 4), right, leave_one_out(right, 4), gamma=0.9
    )
    expected = slow_prime(logps, reference, mask, outcomes, 4, 0.05, 0.9)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    totals = (0.05 * (logps - reference) * mask).sum(axis=1)
    chances = 1 / (1 + np.exp(-totals))
    loss = -sum(np.log(p if y else 1 - p) for p, y in zip(chances, outcomes, strict=True))
    assert float(prm_loss(torch.tensor(totals), right)) == pytest.approx(loss)
    pairs = [
        (totals[i], totals[j]) for i in range(8) for j in range(8) if i // 4 == j // 4 and outcomes[i] > outcomes[j]
    ]
    assert ordered_share(torch.tensor(totals), right, 4) == pytest.approx(np.mean([a > b for a, b in pairs]))


def test_unjudged_answers_and_extreme_prompts_count_nowhere() -> None:
    nan = float("nan")
    right = torch.tensor([1.0, 0.0, nan, 0.0] + [1.0, 1.0, 1.0, 1.0] + [nan] * 4 + [1.0, nan, nan, nan])
    assert in_range(right, 4, 0.2, 0.8).tolist() == [True, True, False, True] + [False] * 12
    baselines = leave_one_out(right, 4)
    assert baselines[:4].tolist() == [0.0, 0.5, pytest.approx(1 / 3), 0.5]
    assert baselines[12].isnan()  # no sibling was judged
    ones = torch.ones(16, 2)
    advantages = prime_advantages(ones * 0, ones, baselines * 0, right, baselines, 1.0)
    assert advantages[[2, 8, 12]].abs().sum() == 0
    assert advantages[0].tolist() == [1.0, 1.0]


def test_weights_of_advantage_reweighting() -> None:
    probabilities = np.array([[0.5, 0.01], [1.0, 0.2]])
    actual = reweighted(torch.tensor([2.0, -1.0]), torch.tensor(np.log(probabilities)), 0.3)
    np.testing.assert_allclose(actual, [[2 * 0.85, 2 * 0.703], [-1.0, -0.76]], rtol=1e-6)


def test_a_reweighting_of_strength_0_is_grpo(make_trainer: Callable[..., Any]) -> None:
    """With several updates on the same answers, so that the probabilities are those of the policy that sampled."""
    trained = []
    for kind in (PLAIN, AR | {"ar_alpha": 0.0}):
        trainer = make_trainer(**kind, max_steps=3, num_iterations=2)
        trainer.train()
        trained.append(weights_of(trainer.model))
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_reweighted_gradients_are_those_of_the_weighted_sum(make_trainer: Callable[..., Any]) -> None:
    """On-policy the ratio is 1, so the gradient of the loss is that of `-sum_t w_t A logp_t / T`, meant over rows."""
    trainer = make_trainer(**AR, ar_alpha=0.3, leave_out_rows=False, temperature=1.0)
    inputs = first_batch(trainer)
    trainer._compute_loss(trainer.model, inputs).backward()
    actual = trl_world.gradients(trainer.model)
    trainer.model.zero_grad()
    model, mask = trainer.model, inputs["completion_mask"]
    logps = plain_logps(lambda **kwargs: type(model).forward(model, **kwargs), inputs)
    weights = 0.3 * logps.detach().exp() + 0.7
    (-(weights * inputs["advantages"][:, None] * logps * mask).sum(1) / mask.sum(1)).mean().backward()
    for name, value in trl_world.gradients(model).items():
        torch.testing.assert_close(actual[name], value, atol=2e-6, rtol=1e-3)


def test_prime_without_its_reward_model_is_rloo(make_trainer: Callable[..., Any]) -> None:
    """Plain SGD: Adam would blow the rounding of the baselines up to the size of a step."""
    everything = {"prompt_accuracy_low": 0.0, "prompt_accuracy_high": 1.0, "prm_beta": 0.0}
    rloo = make_trainer(LeaveOneOut, config_kind=LeanGRPOConfig, max_steps=3, optim="sgd", learning_rate=0.1)
    rloo.train()
    prime = make_trainer(**PRIME | everything, max_steps=3, optim="sgd", learning_rate=0.1)
    prime.train()
    expected, actual = weights_of(rloo.model), weights_of(prime.model)
    assert prime.prm is None
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-6, rtol=0)


def test_prime_takes_no_right_answer_for_wrong_by_rounding(make_trainer: Callable[..., Any]) -> None:
    """0.65 + 0.15 + 0.2 is less than 1 in float32."""
    settings = {"reward_weights": [0.65, 0.15, 0.2], "prompt_accuracy_low": 1.0, "prompt_accuracy_high": 1.0}
    right = lambda completions, **_: [1.0] * len(completions)  # noqa: E731
    trainer = make_trainer(**PRIME | settings, prm_beta=0.0, reward_funcs=[right] * 3, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["prime/prompts_left_out"] == 0.0


def test_prime_in_the_trainer_equals_the_slow_twin(make_trainer: Callable[..., Any]) -> None:
    """The second batch, since the PRM starts as its reference and its first rewards are 0."""
    everything = {"prompt_accuracy_low": 0.0, "prompt_accuracy_high": 1.0, "leave_out_rows": False}
    trainer = make_trainer(**PRIME | everything | {"kind": ScriptedPRIME, "prm_gamma": 0.9, "prm_beta": 0.5})
    seen: list[dict[str, Any]] = []
    advantages_of = trainer._advantages

    def kept(batch: dict[str, Any]) -> torch.Tensor:
        forward = type(trainer.model).forward
        with torch.no_grad():
            both = [plain_logps(lambda m=m, **k: forward(m, **k), batch) for m in (trainer.prm, trainer.reference)]
        advantages = advantages_of(batch)
        seen.append({"logps": both, "advantages": advantages, "mask": batch["completion_mask"], "r": trainer._outcomes})
        return advantages

    trainer._advantages = kept
    trainer.train()
    (first, second), size = seen, trainer.num_generations
    assert torch.equal(*first["logps"])
    for step in seen:
        logps, reference = (values.double().numpy() for values in step["logps"])
        expected = slow_prime(logps, reference, step["mask"].numpy(), step["r"].tolist(), size, 0.5, 0.9)
        np.testing.assert_allclose(step["advantages"].numpy(), expected, atol=2e-5)
    assert np.ptp(second["advantages"].numpy()[0]) > 0


def test_prime_resumes_exactly(make_trainer: Callable[..., Any], questions: Any, tmp_path: Path) -> None:
    changes = PRIME | {"max_steps": 4, "train_dataset": questions.select(range(5)), "save_strategy": "steps"}
    whole = make_trainer(**changes, save_steps=2, folder=tmp_path / "whole")
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    resumed = make_trainer(**changes, save_steps=2, folder=tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name in ("model", "prm", "reference"):
        expected, actual = (weights_of(getattr(trainer, name)) for trainer in (whole, resumed))
        assert all(torch.equal(expected[key], actual[key]) for key in expected), name
    assert any(not torch.equal(a, b) for a, b in zip(whole.prm.parameters(), whole.reference.parameters(), strict=True))
    states = [trainer.prm_optimizer.state_dict()["state"] for trainer in (whole, resumed)]
    assert all(torch.equal(states[0][i]["exp_avg"], states[1][i]["exp_avg"]) for i in states[0])
    (checkpoint / "prm.safetensors").unlink()
    with pytest.raises(DataError, match=r"prm\.safetensors"):
        make_trainer(**changes).train(resume_from_checkpoint=str(checkpoint))


def test_what_peers_cannot_do_is_refused(make_trainer: Callable[..., Any]) -> None:
    for kind in (PRIME, AR):
        with pytest.raises(ConfigError, match="importance_sampling_level"):
            make_trainer(**kind, importance_sampling_level="sequence")
    for key, value in {"prm_beta": -1.0, "prm_gamma": 2.0, "prompt_accuracy_low": 0.9, "fp16": True}.items():
        with pytest.raises(ConfigError, match=key):
            make_trainer(**PRIME, **{key: value, "bf16": False})
    with pytest.raises(ConfigError, match="ar_alpha"):
        make_trainer(**AR, ar_alpha=2.0)
