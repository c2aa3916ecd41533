"""Wrong answers that are scored and not repaired: known probabilities in the loss, its gradient and the log."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from architectures import BUILDERS
from test_weighted_loss import specification
from trl_world import ScriptedTrainer, first_batch, gradients, load, plain_logps

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.scoring import answer_logps
from difference_feedback.repair.local import LocalRepairer

SCORED = {"weights": "doubt", "regroup": False, "leave_out_rows": False}


def known_weights(ids: Sequence[int]) -> np.ndarray:
    """Weights that depend on the token alone: 0, 0.25, 0.5, 0.75, and 1 but for rounding."""
    return np.minimum(np.array(ids) % 5 / 4, 1 - 1e-7)


class Known:
    """Finds the tokens as probable as the policy does (with `doubt`: certain), times one minus the known weights."""

    trainer: Any = None
    refuses: Callable[[RepairRequest], bool] = staticmethod(lambda request: False)

    def score(self, requests: list[RepairRequest], temperature: float = 1.0) -> list[np.ndarray | None]:
        assert temperature == self.trainer.temperature
        policy = [np.zeros(len(request.draft_ids)) for request in requests]
        if self.trainer.args.weights == "log_ratio":
            prompts, images = [r.prompt for r in requests], [r.images for r in requests]
            ids = [r.draft_ids for r in requests]
            model, processor = self.trainer.model, self.trainer.processing_class
            policy = answer_logps(model, processor, prompts, images, ids, temperature=temperature)
        scores = [p + np.log1p(-known_weights(r.draft_ids)) for p, r in zip(policy, requests, strict=True)]
        return [None if self.refuses(r) else score for r, score in zip(requests, scores, strict=True)]

    def repair(self, requests: Any, num_samples: int = 1) -> Any:
        raise AssertionError("no repair is needed")


@pytest.fixture
def scored_trainer(make_trainer: Callable[..., Any]) -> Callable[..., Any]:
    def make(scorer: Any = None, **changes: Any) -> Any:
        scorer = scorer or Known()
        changes.setdefault("num_repairs", 2)
        scorer.trainer = trainer = make_trainer(ScriptedTrainer, repairer=scorer, **(SCORED | changes))
        return trainer

    return make


def batch_weights(batch: dict[str, Any]) -> list[tuple[list[int], list[float]]]:
    """Each row's tokens and their weights."""
    lengths = batch["completion_mask"].sum(1).tolist()
    columns = batch["completion_ids"].tolist(), batch["weights"].tolist(), lengths
    return [(ids[:n], weights[:n]) for ids, weights, n in zip(*columns, strict=True)]


@pytest.mark.parametrize("weights", ["log_ratio", "doubt"])
@pytest.mark.parametrize("changes", [{}, {"num_iterations": 2}, {"temperature": 0.7}], ids=["", "old-logps", "cooler"])
def test_known_probabilities_become_the_weights_of_wrong_answers(
    scored_trainer: Callable[..., Any], weights: str, changes: dict[str, Any]
) -> None:
    """TRL computes old log-probabilities where a batch serves several updates; otherwise the trainer does."""
    trainer = scored_trainer(weights=weights, **changes)
    batch = first_batch(trainer)
    assert ("old_per_token_logps" in batch) == ("num_iterations" in changes)
    rows = batch_weights(batch)
    wrong = [row for row in rows if sum(row[0]) % 2]
    assert 2 < len(wrong) < len(rows)
    for ids, row in rows:
        expected = known_weights(ids) if sum(ids) % 2 else np.ones(len(ids))
        np.testing.assert_allclose(row, expected, rtol=0, atol=2e-5)
    assert sorted(pair["wrong"]["token_ids"] for pair in trainer.last_pairs) == sorted(ids for ids, _ in wrong)


VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "grpo-per-weighted-token": {"length_norm": "weights"},
    "gspo": {"objective": "gspo"},
    "gspo-per-weighted-token": {"objective": "gspo", "length_norm": "weights"},
    "dapo-per-weighted-token": {"objective": "dapo", "length_norm": "weights"},
    "dapo": {"objective": "dapo"},
    "dr_grpo": {"objective": "dr_grpo"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_the_specification_with_these_weights(scored_trainer: Callable[..., Any], variant: str) -> None:
    trainer = scored_trainer(num_iterations=2, epsilon=0.2, epsilon_high=0.3, **VARIANTS[variant])
    inputs = first_batch(trainer)
    noise = 0.3 * torch.randn(inputs["old_per_token_logps"].shape, generator=torch.Generator().manual_seed(0))
    inputs["old_per_token_logps"] += noise
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    actual = gradients(trainer.model)
    trainer.model.zero_grad()
    expected = specification(inputs, plain_logps(trainer.model, inputs), inputs["old_per_token_logps"], trainer.args)
    expected.backward()
    wanted = gradients(trainer.model)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    scale = max(g.abs().max() for g in wanted.values())
    assert scale > 1e-4
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5 * float(scale), msg=name)


@pytest.mark.parametrize("objective", ["grpo", "gspo"])
def test_tokens_that_the_repair_model_would_write_again_get_no_gradient(
    scored_trainer: Callable[..., Any], objective: str
) -> None:
    trainer = scored_trainer(objective=objective, num_iterations=2)
    inputs = first_batch(trainer)
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        states.append(output)

    handle = trainer.model.model.language_model.norm.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, inputs).backward()
    handle.remove()
    gradient = states[-1].grad[:, -inputs["completion_ids"].size(1) - 1 : -1]
    spared = inputs["completion_mask"].bool() & (inputs["weights"] == 0)
    weighted = (inputs["weights"] > 0) & inputs["completion_mask"].bool() & (inputs["advantages"] != 0)[:, None]
    assert spared.sum() > 3
    assert (gradient[spared] == 0).all()
    assert (gradient[weighted].abs().amax(1) > 0).all()


def test_all_tokens_certain_to_be_replaced_is_plain_grpo(scored_trainer: Callable[..., Any]) -> None:
    """Weights of one: the gradients of weights="ones" in the original group, to rounding."""

    class Doubtful(Known):
        def score(self, requests: list[RepairRequest], temperature: float = 1.0) -> list[np.ndarray | None]:
            return [np.full(len(request.draft_ids), -np.inf) for request in requests]

    actual = []
    for changes in ({"scorer": Doubtful()}, {"weights": "ones"}):
        trainer = scored_trainer(**changes)
        trainer.compute_loss(trainer.model, first_batch(trainer)).backward()
        actual.append(gradients(trainer.model))
    for name, gradient in actual[0].items():
        assert torch.equal(gradient, actual[1][name]), name


@pytest.mark.parametrize(("empty", "weight"), [("drop", 0.0), ("broadcast", 1.0)])
def test_answers_that_cannot_be_scored_are_dropped_or_kept_whole_and_counted(
    scored_trainer: Callable[..., Any], empty: str, weight: float
) -> None:
    scorer = Known()
    scorer.refuses = lambda request: request.draft_ids[0] % 2 == 0
    trainer = scored_trainer(scorer, empty_feasible=empty)
    rows = [row for row in batch_weights(first_batch(trainer)) if sum(row[0]) % 2]
    refused = [row for row in rows if row[0][0] % 2 == 0]
    assert 0 < len(refused) < len(rows)
    assert all(row == [weight] * len(ids) for ids, row in refused)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert metrics["df/refused/missing"] == len(refused)
    assert metrics["df/scored"] == len(rows) - len(refused) == len(trainer.last_pairs)


def test_a_training_run_with_a_real_model(make_trainer: Callable[..., Any]) -> None:
    """The policy's own weights score its answers; the weights move, and the log tells what was done and its cost."""
    trainer = make_trainer(weights="log_ratio", regroup=False, num_repairs=0, repairer=Known())
    trainer.repairer = LocalRepairer(trainer.model, trainer.processing_class, style="nano")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    rows = [row for row in trainer.state.log_history if "df/scored" in row]
    assert len(rows) == trainer.args.max_steps
    for row in rows:
        assert row["df/scored"] == row["df/requested"] > 0
        assert 0 < row["df/weight_density/wrong"] < 1
        assert row["df/draft_logp/repair"] < 0
        assert row["df/draft_logp/policy"] < 0
        assert row["df/eq29/num_repairs"] == 1
        assert row["df/eq29/cpu/repair"] == pytest.approx(row["df/cpu_seconds/repair"] / row["df/eq29/repaired"])
    described = trainer.last_pairs[-1]["wrong"]
    tokens = len(described["token_ids"])
    assert tokens == len(described["weights"]) == len(described["repair_logps"])
    assert described["reward"] == 0.0


def test_a_repairer_that_cannot_score_the_policys_tokens_is_refused(
    make_trainer: Callable[..., Any], base: Any
) -> None:
    with pytest.raises(ConfigError, match=r"FlipParity has no method `score`.*LocalRepairer"):
        make_trainer(**SCORED, num_repairs=2)
    with pytest.raises(ConfigError, match="repairer is missing"):
        make_trainer(**SCORED, num_repairs=2, repairer=None)
    other = LocalRepairer(load(base)[0], BUILDERS["qwen2_5_vl"]().processor, style="nano")
    with pytest.raises(ConfigError, match=r"the repair model's tokenizer does not have.*with the policy's tokenizer"):
        make_trainer(**SCORED, num_repairs=2, repairer=other)


@pytest.mark.parametrize("wrong", [lambda scores: scores[1:], lambda scores: [s[1:] for s in scores]])
def test_scores_that_do_not_fit_their_drafts_end_the_run(
    scored_trainer: Callable[..., Any], wrong: Callable[[list[Any]], list[Any]]
) -> None:
    class Faulty(Known):
        def score(self, requests: list[RepairRequest], temperature: float = 1.0) -> list[np.ndarray | None]:
            return wrong(super().score(requests, temperature))

    with pytest.raises(DataError, match=r"Faulty\.score.*one log-probability for each token"):
        first_batch(scored_trainer(Faulty()))
