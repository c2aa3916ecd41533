"""The weighted update: TRL's loss on the trainer's batch is the host-free specification, in value and in gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from trl_world import EOS, ScriptedTrainer, first_batch, gradients, plain_logps

import difference_feedback.trl.trainer as trainer_module
from difference_feedback.method.objectives import surrogate_loss
from difference_feedback.trl.objective import TRL_OBJECTIVES

VARIANTS = {
    "grpo": {},
    "grpo-soft": {"sigma": 2.0},
    "grpo-steps": {"granularity": "step"},
    "grpo-lcs": {"alignment_method": "lcs", "anchor_gaps": False},
    "grpo-unweighted": {"weights": "ones"},
    "grpo-per-weighted-token": {"length_norm": "weights", "sigma": 1.0},
    "grpo-broadcast": {"empty_feasible": "broadcast"},
    "grpo-correct-kept": {"correct_rollouts": "keep"},
    "gspo": {"objective": "gspo"},
    "gspo-soft-per-weighted-token": {"objective": "gspo", "sigma": 3.0, "length_norm": "weights"},
    "dr_grpo": {"objective": "dr_grpo"},
    "dapo": {"objective": "dapo"},
    "sapo": {"objective": "sapo"},
    "sapo-soft-per-weighted-token": {"objective": "sapo", "length_norm": "weights", "sigma": 1.5},
    "cispo": {"objective": "cispo", "epsilon_high": 1.1},
    "cispo-per-weighted-token": {"objective": "cispo", "epsilon_high": 1.1, "length_norm": "weights", "sigma": 1.5},
    "grpo-root-cause": {"root_cause": True},
    "dapo-per-weighted-token": {"objective": "dapo", "length_norm": "weights", "sigma": 1.5},
}


def specification(inputs: dict[str, Any], logps: torch.Tensor, old: torch.Tensor, args: Any) -> torch.Tensor:
    options: dict[str, Any] = {"length_norm": args.length_norm}
    if args.objective == "cispo":
        options |= {"clip_low": 1.0, "clip_high": args.epsilon_high - 1}
    elif args.objective != "sapo":
        options |= {"clip_low": args.epsilon, "clip_high": args.epsilon_high}
    if args.objective == "dr_grpo":
        options["max_tokens"] = args.max_completion_length
    weighted = inputs["advantages"], inputs["weights"], inputs["completion_mask"]
    return surrogate_loss(logps, old, *weighted, args.objective, **options)


@pytest.mark.parametrize("fillers", [0, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_specification(
    make_trainer: Callable[..., Any], variant: str, fillers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off-policy, some ratios clipped; with filler rows as without."""
    rows = trainer_module.rows_per_rank
    monkeypatch.setattr(trainer_module, "rows_per_rank", lambda *args: rows(*args) + fillers)
    changes = {"epsilon": 0.2, "epsilon_high": 0.3, "num_iterations": 2} | VARIANTS[variant]
    trainer = make_trainer(ScriptedTrainer, leave_out_rows=False if fillers else None, **changes)
    inputs = first_batch(trainer)
    assert (inputs["completion_mask"].sum(1) == 0).sum() == fillers
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
    assert actual.keys() == wanted.keys()
    scale = max(g.abs().max() for g in wanted.values())
    assert scale > 1e-4
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5 * float(scale), msg=name)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("objective", TRL_OBJECTIVES)
def test_unweighted_tokens_get_no_gradient_but_the_kl_reaches_them(
    make_trainer: Callable[..., Any], objective: str, beta: float
) -> None:
    epsilon = {} if objective in ("sapo", "cispo") else {"epsilon": 0.2}
    trainer = make_trainer(ScriptedTrainer, objective=objective, beta=beta, num_iterations=2, **epsilon)
    inputs = first_batch(trainer)
    inputs["old_per_token_logps"] += 0.1
    if beta:
        inputs["ref_per_token_logps"] -= 0.5
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        states.append(output)

    handle = trainer.model.model.language_model.norm.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, inputs).backward()
    handle.remove()
    width = inputs["completion_ids"].size(1)
    gradient = states[-1].grad[:, -width - 1 : -1]  # what predicts token t stands one before it
    weighted, completion = inputs["weights"] > 0, inputs["completion_mask"].bool()
    unweighted = completion & ~weighted
    assert unweighted.sum() > 5
    assert (gradient[weighted].abs().amax(1) > 0).all()
    assert ((gradient[unweighted].abs().amax(1) > 0) == (beta > 0)).all()
    assert (gradient[~completion] == 0).all()


@pytest.mark.parametrize("objective", ["grpo", "gspo"])
def test_gradient_checkpointing_changes_nothing(make_trainer: Callable[..., Any], objective: str) -> None:
    actual = []
    for checkpointing in (False, True):
        changes = {"gradient_checkpointing": checkpointing, "objective": objective, "num_iterations": 2}
        trainer = make_trainer(ScriptedTrainer, **changes)
        loss = trainer.compute_loss(trainer.model, first_batch(trainer))
        loss.backward()
        actual.append({"loss": loss.detach(), **gradients(trainer.model)})
    assert actual[0].keys() == actual[1].keys()
    for name, value in actual[0].items():
        torch.testing.assert_close(value, actual[1][name], msg=name)


@pytest.mark.parametrize("objective", ["grpo", "gspo"])
def test_unweighted_tokens_get_no_gradient_in_bfloat16_either(make_trainer: Callable[..., Any], objective: str) -> None:
    """Weights of zero on all of one side: in half precision, too, it is as if those rows were not there."""
    trainer = make_trainer(ScriptedTrainer, objective=objective)
    inputs = first_batch(trainer)
    trainer.model.to(torch.bfloat16)
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    trainer.compute_loss(trainer.model, inputs).backward()
    assert sum(float(g.float().norm()) for g in gradients(trainer.model).values()) > 0
    trainer.model.zero_grad()
    inputs["weights"] = torch.zeros_like(inputs["weights"])
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients(trainer.model).values())


def test_a_repairs_ratio_can_be_one_at_its_first_update(make_trainer: Callable[..., Any]) -> None:
    """`old`: the rollout policy's log-probabilities stay. `one`: those of the first update are kept for the second."""
    ratios: dict[str, list[torch.Tensor]] = {}
    for choice in ("old", "one"):
        trainer = make_trainer(ScriptedTrainer, repaired_ratio=choice, num_iterations=2)
        inputs = first_batch(trainer)
        repairs = inputs["is_repair"]
        assert 0 < repairs.sum() < len(repairs)
        inputs["old_per_token_logps"] -= 0.1
        rollouts = inputs["old_per_token_logps"][~repairs].clone()
        ratios[choice] = []
        for _ in range(2):
            trainer.compute_loss(trainer.model, inputs)
            with torch.no_grad():
                log_ratio = plain_logps(trainer.model, inputs) - inputs["old_per_token_logps"]
                ratios[choice].append(log_ratio[repairs][inputs["completion_mask"][repairs].bool()])
                for parameter in trainer.model.parameters():
                    parameter += 0.01 * parameter.abs().mean() * torch.sign(parameter)
            assert torch.equal(inputs["old_per_token_logps"][~repairs], rollouts)
    torch.testing.assert_close(ratios["old"][0], torch.full_like(ratios["old"][0], 0.1), rtol=0, atol=1e-5)
    torch.testing.assert_close(ratios["one"][0], torch.zeros_like(ratios["one"][0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(ratios["one"][1], ratios["old"][1] - 0.1, rtol=0, atol=1e-5)
    assert ratios["one"][1].abs().max() > 1e-4


def test_the_kl_is_trls_own_under_sequence_weights(make_trainer: Callable[..., Any]) -> None:
    """GSPO: gradient with beta minus gradient without is the gradient of an unweighted KL."""
    trainer = make_trainer(ScriptedTrainer, objective="gspo", beta=0.2)
    inputs = first_batch(trainer)
    inputs["ref_per_token_logps"] += 0.4 * torch.randn(
        inputs["ref_per_token_logps"].shape, generator=torch.Generator().manual_seed(0)
    )
    trainer.compute_loss(trainer.model, inputs).backward()
    both = gradients(trainer.model)
    trainer.model.zero_grad()
    trainer.beta = 0.0
    trainer.compute_loss(trainer.model, inputs).backward()
    policy = gradients(trainer.model)
    trainer.model.zero_grad()
    logps, mask = plain_logps(trainer.model, inputs), inputs["completion_mask"]
    difference = inputs["ref_per_token_logps"] - logps
    kl = ((difference.exp() - difference - 1) * mask).sum(1) / mask.sum(1).clamp(min=1)
    (0.2 * kl.sum() / (mask.sum(1) > 0).sum()).backward()
    for name, gradient in gradients(trainer.model).items():
        torch.testing.assert_close(both[name] - policy[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_each_row_is_scored_with_its_own_question_and_images(make_trainer: Callable[..., Any]) -> None:
    """Every row of the pair batch, taken alone through the processor from its own example, has the same log-probs."""
    trainer = make_trainer(ScriptedTrainer, per_device_train_batch_size=24)
    inputs = first_batch(trainer)
    logps = trainer._logps(trainer.model, inputs).detach()
    examples = {}
    for pair in trainer.last_pairs:
        for side in ("wrong", "repair"):
            examples[tuple(pair[side]["token_ids"])] = pair["example"]
    images = {len(example["images"]) for example in examples.values()}
    lengths = set(inputs["prompt_mask"].sum(1).tolist())
    assert images == {1, 2}
    assert len(lengths) > 1
    assert len(examples) > 8
    for row, mask in enumerate(inputs["completion_mask"].bool()):
        ids = inputs["completion_ids"][row][mask]
        if not len(ids):
            continue
        example = examples[tuple(ids.tolist())]
        text = trainer.processing_class.apply_chat_template(example["prompt"], add_generation_prompt=True)
        alone = trainer.processing_class(text=[text], images=[example["images"]], return_tensors="pt")
        alone["input_ids"] = torch.cat([alone["input_ids"], ids[None]], 1)
        for name in ("attention_mask", "mm_token_type_ids"):
            fill = float(name == "attention_mask") * torch.ones_like(ids)[None]
            alone[name] = torch.cat([alone[name], fill.to(alone[name].dtype)], 1)
        with torch.no_grad():
            logits = trainer.model(**alone, use_cache=False).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
        wanted = logits.gather(1, ids[:, None]).squeeze(1)
        torch.testing.assert_close(logps[row][mask], wanted, rtol=1e-4, atol=1e-5)


def test_another_image_gives_other_log_probs(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(ScriptedTrainer)
    inputs = first_batch(trainer)
    before = trainer._logps(trainer.model, inputs)
    patches = inputs["image_grid_thw"].prod(-1).split(inputs["num_images"])[0].sum()
    inputs["pixel_values"] = inputs["pixel_values"].clone()
    inputs["pixel_values"][:patches] *= -1
    after = trainer._logps(trainer.model, inputs)
    real = inputs["completion_mask"].bool()
    assert (before[0] != after[0])[real[0]].all()
    torch.testing.assert_close(before[1:], after[1:], rtol=0, atol=1e-6)


def test_pairs_are_wrong_answers_and_their_repairs(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(ScriptedTrainer, per_device_train_batch_size=24)
    inputs = first_batch(trainer)
    rows = {
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(inputs["completion_ids"], inputs["completion_mask"], strict=True)
    }
    rows.discard(())
    pairs = trainer.last_pairs
    assert rows == {tuple(pair[side]["token_ids"]) for pair in pairs for side in ("wrong", "repair")}
    for pair in pairs:
        wrong, repair = pair["wrong"], pair["repair"]
        assert (sum(wrong["token_ids"]) % 2, sum(repair["token_ids"]) % 2) == (1, 0)
        assert wrong["token_ids"][-1] == repair["token_ids"][-1] == EOS
        assert wrong["advantage"] < 0 < repair["advantage"]
        assert 0 < sum(repair["mask"]) <= 3
        assert repair["mask"] == repair["weights"]
        assert (wrong["reward"], repair["reward"]) == (0.0, 1.0)
