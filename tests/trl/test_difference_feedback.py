"""From rollouts to pairs: what is requested, rejected, skipped, chosen and counted, and what changes no weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig
from trl.chat_template_utils import qwen3_template
from trl_world import (
    EOS,
    FIRST_TEXT_ID,
    VISION_IDS,
    FlipParity,
    ScriptedTrainer,
    first_batch,
    parity,
    plain_logps,
    weights_of,
)

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.method.cost import ledger
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer
from difference_feedback.trl.rollouts import requests_of


class Fixed:
    """Returns the same candidates for every request and remembers the requests."""

    def __init__(self, *candidates: list[int]) -> None:
        self.candidates = candidates
        self.requests: list[RepairRequest] = []

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        assert not torch.is_grad_enabled()
        self.requests += requests
        return [[Repair(list(ids), "") for ids in self.candidates[:num_samples]] for _ in requests]


def df(trainer: Any) -> dict[str, float]:
    """The metrics noted so far, under their names after `df/`."""
    return {name[3:]: values[-1] for name, values in trainer._metrics["train"].items() if name.startswith("df/")}


def repairable(rollouts: Any) -> list[int]:
    """Rows of wrong answers that have a correct sibling, four rows a question."""
    rewards = rollouts.own_rewards
    return [i for i in range(len(rewards)) if rewards[i] == 0 and rewards[i // 4 * 4 : i // 4 * 4 + 4].any()]


def test_a_request_holds_conversation_images_draft_and_a_correct_sibling(make_trainer: Callable[..., Any]) -> None:
    repairer = Fixed([FIRST_TEXT_ID * 2, EOS])
    trainer = make_trainer(ScriptedTrainer, repairer=repairer, per_device_train_batch_size=48)
    first_batch(trainer)
    rollouts = trainer._rollouts
    rows = repairable(rollouts)
    assert [request.draft_ids for request in repairer.requests] == [rollouts.completion_ids[row] for row in rows]
    assert 5 < len(rows) < (rollouts.own_rewards == 0).sum()
    for row, request in zip(rows, repairer.requests, strict=True):
        group = range(row // 4 * 4, row // 4 * 4 + 4)
        assert request.reference in {rollouts.texts[i] for i in group if rollouts.own_rewards[i] == 1}
        parts = [part for message in request.prompt for part in message["content"]]
        assert [part for part in parts if part["type"] == "image"] == [{"type": "image"}] * len(request.images)
        assert [image.size for image in request.images] == [im.size for im in rollouts.examples[row]["images"]]
    metrics = df(trainer)
    assert metrics["requested"] == len(repairer.requests)
    assert metrics["wrong_share"] == pytest.approx((rollouts.own_rewards == 0).mean())


def test_a_request_has_opened_images_where_the_data_name_files(make_trainer: Callable[..., Any], tmp_path: Any) -> None:
    Image.new("RGB", (56, 84), "red").save(tmp_path / "red.png")
    part = {"type": "image", "image": str(tmp_path / "red.png")}
    rows = [
        {"prompt": [{"role": "user", "content": [part, {"type": "text", "text": f"what is {i} plus {i} ?"}]}]}
        for i in range(4)
    ]
    repairer = Fixed([20, EOS])
    trainer = make_trainer(ScriptedTrainer, repairer=repairer, train_dataset=Dataset.from_list(rows))
    first_batch(trainer)
    assert repairer.requests
    for request in repairer.requests:
        assert [image.size for image in request.images] == [(56, 84)]
    with pytest.raises(DataError, match="an image is a bytes; give an image of PIL, or a path"):
        requests_of(
            replace(trainer._rollouts, prompts=[[{"role": "user", "content": [part | {"image": b""}]}]]), {0: ""}
        )


def test_the_cheapest_right_candidate_is_chosen(make_trainer: Callable[..., Any]) -> None:
    class Three(FlipParity):
        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            assert num_samples == 3
            right = [self._repair(request.draft_ids) for request in requests]
            even = [[FIRST_TEXT_ID + 2 * (sum(r.draft_ids) % 5)] * 11 + [EOS] for r in requests]  # right, all edits
            wrong = [Repair(r.draft_ids, "") for r in requests]  # no edit at all, and wrong
            return [[Repair(e, ""), w, r] for e, w, r in zip(even, wrong, right, strict=True)]

    trainer = make_trainer(ScriptedTrainer, repairer=Three(), num_repairs=3)
    first_batch(trainer)
    assert trainer.last_pairs
    for pair in trainer.last_pairs:
        assert pair["repair"]["token_ids"] == FlipParity()._repair(pair["wrong"]["token_ids"]).token_ids
    assert df(trainer)["edit_cost"] == pytest.approx(
        sum(pair["edit_cost"] for pair in trainer.last_pairs) / len(trainer.last_pairs)
    )


def costs_of_siblings(rollouts: Any) -> dict[int, list[float]]:
    """Row of a wrong answer -> edit cost of each right answer of its group."""
    costs = {}
    for row in repairable(rollouts):
        group = range(row // 4 * 4, row // 4 * 4 + 4)
        right = [rollouts.completion_ids[i] for i in group if rollouts.own_rewards[i] == 1]
        costs[row] = [edit_cost(align(rollouts.completion_ids[row], ids)) for ids in right]
    return costs


def test_the_closest_right_sibling_is_a_repair_that_no_model_makes(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(
        ScriptedTrainer, repairer=None, num_repairs=0, sibling_repairs=True, per_device_train_batch_size=48
    )
    first_batch(trainer)
    costs = costs_of_siblings(trainer._rollouts)
    assert any(len(of_siblings) > 1 for of_siblings in costs.values())
    assert [pair["edit_cost"] for pair in trainer.last_pairs] == [min(of_siblings) for of_siblings in costs.values()]
    assert df(trainer)["feasible_share"] == 1
    predicted = [value for name, value in df(trainer).items() if name.endswith("/predicted")]
    assert all(map(math.isfinite, predicted))
    answers = trainer._rollouts.completion_ids
    for pair in trainer.last_pairs:
        assert pair["repair"]["token_ids"] in answers
        assert pair["repair"]["reward"] == 1


def test_siblings_stand_behind_a_models_repairs_and_fill_in_for_them(make_trainer: Callable[..., Any]) -> None:
    class Half(FlipParity):
        """A repair of one edit or two for every second request, none for the others."""

        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            repairs = super().repair(requests, num_samples)
            return [candidates if i % 2 else [] for i, candidates in enumerate(repairs)]

    trainer = make_trainer(ScriptedTrainer, repairer=Half(), sibling_repairs=True, per_device_train_batch_size=48)
    first_batch(trainer)
    costs = costs_of_siblings(trainer._rollouts)
    answers = trainer._rollouts.completion_ids
    assert len(trainer.last_pairs) == len(costs)
    for i, (pair, siblings) in enumerate(zip(trainer.last_pairs, costs.values(), strict=True)):
        if i % 2:
            assert pair["repair"]["token_ids"] == FlipParity()._repair(pair["wrong"]["token_ids"]).token_ids
        else:
            assert pair["repair"]["token_ids"] in answers
            assert pair["edit_cost"] == min(siblings)


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ([], "empty"),
        ([20, VISION_IDS[3], EOS], "vision_token"),
        ([20, 10**6, EOS], "out_of_range"),
        ([20, -100, EOS], "out_of_range"),
        ([20] * 40, "too_long"),
        (None, "missing"),
    ],
)
def test_repairs_that_the_policy_cannot_read_are_refused_and_counted(
    make_trainer: Callable[..., Any], candidate: list[int] | None, reason: str
) -> None:
    repairer = Fixed() if candidate is None else Fixed(candidate)
    trainer = make_trainer(ScriptedTrainer, repairer=repairer)
    inputs = first_batch(trainer)
    metrics = df(trainer)
    assert metrics[f"refused/{reason}"] == metrics["requested"] > 0
    assert sum(value for name, value in metrics.items() if name.startswith("refused/")) == metrics["requested"]
    assert (metrics["pairs"], metrics["feasible_share"]) == (0, 0)
    assert metrics["skipped/no_feasible_repair"] > 0
    assert inputs["completion_mask"].sum() == 0


def test_without_a_pair_nothing_moves_whatever_the_moments_are(make_trainer: Callable[..., Any]) -> None:
    class Failing(FlipParity):
        working = True

        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            return super().repair(requests, num_samples) if self.working else [[] for _ in requests]

    class Watching(ScriptedTrainer):
        snapshots: list[dict[str, torch.Tensor]]

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            self.snapshots = [*getattr(self, "snapshots", []), weights_of(self.model)]
            self.repairer.working = len(self.snapshots) == 1
            return super().training_step(*args, **kwargs)

    trainer = make_trainer(Watching, repairer=Failing(), max_steps=3, weight_decay=0.1)
    trainer.train()
    before, after_pairs, after_none = trainer.snapshots
    assert any(not torch.equal(before[name], after_pairs[name]) for name in before)
    assert all(torch.equal(after_pairs[name], after_none[name]) for name in before)
    assert all(torch.equal(after_pairs[name], value) for name, value in weights_of(trainer.model).items())


def test_unrepaired_answers_are_dropped_or_kept_whole(make_trainer: Callable[..., Any]) -> None:
    class Half(FlipParity):
        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            repairs = super().repair(requests, num_samples)
            return [[] if i % 2 else repair for i, repair in enumerate(repairs)]

    kept = make_trainer(ScriptedTrainer, repairer=Half(), empty_feasible="broadcast", per_device_train_batch_size=24)
    inputs = first_batch(kept)
    metrics = df(kept)
    members = int((inputs["completion_mask"].sum(1) > 0).sum())
    assert members == metrics["requested"] + metrics["pairs"] == 2 * metrics["pairs"] + metrics["requested"] // 2
    paired = {tuple(pair["wrong"]["token_ids"]) for pair in kept.last_pairs}
    whole = [row for row in range(members) if (inputs["weights"][row] == inputs["completion_mask"][row]).all()]
    assert len(whole) == metrics["requested"] // 2
    for row in whole:
        ids = inputs["completion_ids"][row][inputs["completion_mask"][row].bool()].tolist()
        assert sum(ids) % 2 == 1 and tuple(ids) not in paired  # noqa: PT018
        assert inputs["advantages"][row] <= 0

    dropped = make_trainer(ScriptedTrainer, repairer=Half(), per_device_train_batch_size=24)
    inputs = first_batch(dropped)
    assert (inputs["completion_mask"].sum(1) > 0).sum() == 2 * df(dropped)["pairs"]


def test_repairs_that_are_improbable_to_the_policy_are_not_used(make_trainer: Callable[..., Any]) -> None:
    every = make_trainer(ScriptedTrainer, per_device_train_batch_size=24)
    inputs = first_batch(every)
    with torch.no_grad():
        logps = plain_logps(every.model, inputs)
    lowest = {}
    for row in torch.where(inputs["is_repair"])[0].tolist():
        tokens = inputs["completion_mask"][row].bool()
        lowest[tuple(inputs["completion_ids"][row][tokens].tolist())] = logps[row][tokens].min().exp().item()
    ranked = sorted(lowest.values())
    threshold = (ranked[len(ranked) // 2 - 1] + ranked[len(ranked) // 2]) / 2

    strict = make_trainer(ScriptedTrainer, min_probability=threshold, per_device_train_batch_size=24)
    first_batch(strict)
    used = {tuple(pair["repair"]["token_ids"]) for pair in strict.last_pairs}
    assert used == {ids for ids, probability in lowest.items() if probability > threshold}
    assert 0 < len(used) < len(lowest)
    assert df(strict)["implausible"] == df(every)["pairs"] - df(strict)["pairs"] > 0


def test_answers_without_a_reward_belong_to_no_group_and_are_counted(make_trainer: Callable[..., Any]) -> None:
    def sometimes(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        grades = parity(completions, completion_ids)
        return [None if i % 4 == 0 else math.nan if i % 4 == 1 else g for i, g in enumerate(grades)]

    repairer = Fixed([20, EOS])
    trainer = make_trainer(ScriptedTrainer, reward_funcs=sometimes, repairer=repairer, per_device_train_batch_size=24)
    first_batch(trainer)
    rollouts = trainer._rollouts
    assert df(trainer)["unjudged"] == 12
    judged = [ids for i, ids in enumerate(rollouts.completion_ids) if i % 4 > 1]
    assert all(request.draft_ids in judged for request in repairer.requests)
    wrong = sum(sum(ids) % 2 for ids in judged)
    assert df(trainer)["wrong_share"] == pytest.approx(wrong / 12)


def test_prompts_are_skipped_for_a_reason(make_trainer: Callable[..., Any]) -> None:
    def by_prompt(
        prompts: list[Any], completions: list[Any], completion_ids: list[Any], **_: Any
    ) -> list[float | None]:
        outcomes = {0: [0.0] * 4, 1: [1.0] * 4, 2: [None] * 4, 3: [0.0, 1.0, 0.0, 1.0]}
        if len(prompts) != 16:  # repairs
            return [1.0] * len(prompts)
        return [outcomes[i // 4][i % 4] for i in range(16)]

    trainer = make_trainer(ScriptedTrainer, reward_funcs=by_prompt, per_device_train_batch_size=16)
    first_batch(trainer)
    metrics = df(trainer)
    assert metrics["skipped/no_reference"] == metrics["skipped/no_wrong_answer"] == metrics["skipped/unjudged"] == 1
    assert (metrics["pairs"], metrics["skipped/no_feasible_repair"]) == (2, 0)


def test_the_annotated_answer_serves_where_no_sibling_is_right(make_trainer: Callable[..., Any]) -> None:
    def never(completions: list[Any], **_: Any) -> list[float]:
        return [0.0] * len(completions)

    repairer = Fixed([20, EOS])
    trainer = make_trainer(ScriptedTrainer, reward_funcs=never, repairer=repairer, answer_column="answer")
    first_batch(trainer)
    assert len(repairer.requests) == 8
    examples = trainer._rollouts.examples
    assert [request.reference for request in repairer.requests] == [example["answer"] for example in examples]

    repairer = Fixed([20, EOS])
    only = make_trainer(ScriptedTrainer, repairer=repairer, reference="answer", answer_column="answer")
    first_batch(only)
    answers = {example["answer"] for example in only._rollouts.examples}
    assert repairer.requests
    assert {request.reference for request in repairer.requests} <= answers

    missing = make_trainer(ScriptedTrainer, answer_column="solution")
    with pytest.raises(DataError, match=r"answer_column='solution'.*choose one of.*answer"):
        first_batch(missing)


def test_references_are_drawn_alike_in_equal_runs(make_trainer: Callable[..., Any]) -> None:
    def references(seed: int) -> list[str]:
        repairer = Fixed([20, EOS])
        trainer = make_trainer(ScriptedTrainer, repairer=repairer, reference_seed=seed, per_device_train_batch_size=24)
        first_batch(trainer)
        return [request.reference for request in repairer.requests]

    assert references(0) == references(0)
    assert references(0) != references(1)


def test_the_original_group_can_have_weights_without_repairs_in_it(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(ScriptedTrainer, regroup=False, per_device_train_batch_size=24)
    inputs = first_batch(trainer)
    by_ids = {tuple(pair["wrong"]["token_ids"]): pair["wrong"] for pair in trainer.last_pairs}
    assert len(inputs["completion_ids"]) == 24
    seen = 0
    for ids, mask, weights in zip(
        inputs["completion_ids"], inputs["completion_mask"].bool(), inputs["weights"], strict=True
    ):
        tokens = tuple(ids[mask].tolist())
        if tokens in by_ids:
            seen += 1
            assert weights[mask].tolist() == by_ids[tokens]["weights"]
        else:
            assert weights[mask].tolist() == [float(sum(tokens) % 2 == 0)] * len(tokens)
    assert seen == len(by_ids) == len(repairable(trainer._rollouts))


def test_scoring_repairs_leaves_trls_table_of_rollouts_alone(make_trainer: Callable[..., Any]) -> None:
    calls = []

    def logging(completions: list[Any], completion_ids: list[Any], log_extra: Any, log_metric: Any, **_: Any) -> Any:
        calls.append(len(completions))
        log_extra("length", [len(ids) for ids in completion_ids])
        log_metric("size", float(len(completions)))
        return parity(completions, completion_ids)

    trainer = make_trainer(ScriptedTrainer, reward_funcs=logging, log_completions=True)
    first_batch(trainer)
    assert calls == [8, df(trainer)["requested"]]
    assert list(trainer._logs["extra"]["length"]) == [len(ids) for ids in trainer._rollouts.completion_ids]
    assert trainer._metrics["train"]["size"] == [8.0]
    advantages, repairs = list(trainer._logs["advantages"]), list(trainer._logs["extra"]["repair"])
    assert len(advantages) == len(repairs) == 8
    assert [row for row in range(8) if advantages[row] < 0] == repairable(trainer._rollouts)
    assert [row for row in range(8) if repairs[row]] == repairable(trainer._rollouts)
    assert not trainer._pending_extra_logs
    assert not trainer._pending_metrics


def test_rows_of_an_evaluation_have_no_repair_in_trls_table(make_trainer: Callable[..., Any], questions: Any) -> None:
    trainer = make_trainer(
        ScriptedTrainer,
        log_completions=True,
        eval_dataset=questions.select(range(2)),
        per_device_eval_batch_size=4,
        per_device_train_batch_size=16,
    )
    first_batch(trainer)
    trainer.evaluate()
    columns = trainer._logs["completion"], trainer._logs["advantages"], trainer._logs["extra"]["repair"]
    assert [len(column) for column in columns] == [16, 16, 16]
    repaired = [row for row in range(16) if columns[2][row]]
    assert repaired == [row - 8 for row in repairable(trainer._rollouts) if row >= 8] != []


def test_repairs_are_graded_as_trl_parses_rollouts_and_repaired_whole(make_trainer: Callable[..., Any]) -> None:
    """With a template of responses, TRL's completions are without the reasoning. Drafts and references have it."""
    graded: list[str] = []
    requests: list[RepairRequest] = []

    class Thinking(DFGRPOTrainer):
        def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
            return [self.thought(i % 2) for i in range(len(prompt_ids))], None

        def thought(self, answer: int) -> list[int]:
            text = f"<think>count them</think>answer {answer}"
            return [*self._tokenizer.encode(text, add_special_tokens=False), EOS]

    class Corrects:
        def repair(self, asked: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            requests.extend(asked)
            return [[Repair(trainer.thought(1), "")] for _ in asked]

    def ends_right(completions: list[Any], **_: Any) -> list[float]:
        graded.extend(completion[0]["content"] for completion in completions)
        return [float(text == "answer 1") for text in graded[-len(completions) :]]

    trainer = make_trainer(Thinking, reward_funcs=ends_right, repairer=Corrects(), max_completion_length=64)
    trainer._tokenizer.response_template = qwen3_template
    first_batch(trainer)
    assert set(graded) == {"answer 0", "answer 1"}
    assert df(trainer)["pairs"] == len(requests) == 4
    assert {request.reference for request in requests} == {"<think>count them</think>answer 1"}


def test_generation_never_emits_vision_tokens(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(
        DFGRPOTrainer,
        generation_kwargs={"suppress_tokens": [FIRST_TEXT_ID]},
        per_device_train_batch_size=48,
        num_generations=24,
        max_completion_length=40,
    )
    assert trainer.generation_config.suppress_tokens == sorted([FIRST_TEXT_ID, *VISION_IDS])
    first_batch(trainer)
    sampled = {i for ids in trainer._rollouts.completion_ids for i in ids}
    assert len(sampled) > 300
    assert sampled.isdisjoint([*VISION_IDS, FIRST_TEXT_ID])


def test_a_repairer_may_leave_shared_weights_in_evaluation_mode(make_trainer: Callable[..., Any]) -> None:
    class Shared(FlipParity):
        model: Any = None

        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            self.model.eval()
            return super().repair(requests, num_samples)

    repairer = Shared()
    trainer = make_trainer(ScriptedTrainer, repairer=repairer)
    repairer.model = trainer.model
    trainer.train()
    assert trainer.model.training


def test_stages_and_the_cost_formula_are_logged(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(ScriptedTrainer, max_steps=3)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "df/pairs" in row]
    assert len(rows) == 3
    for row in rows:
        stages = [row[f"df/seconds/{stage}"] for stage in ("rollout", "repair", "align", "update")]
        assert all(seconds > 0 for seconds in stages)
        assert sum(stages) <= row["df/seconds/total"] == row["df/eq29/wall/measured"]
        assert 0.5 < row["df/eq29/wall/predicted"] / row["df/eq29/wall/measured"] < 1.2
        assert row["df/eq29/num_repairs"] == 1
        assert row["df/eq29/p_err"] == row["df/wrong_share"]
    assert ledger(trainer.state.log_history) == trainer.cost.run
    measured = trainer.cost.run.terms(1)["wall"].measured
    assert measured == pytest.approx(sum(row["df/eq29/wall/measured"] for row in rows) / 3)


def test_evaluation_is_trls_own(make_trainer: Callable[..., Any], questions: Any) -> None:
    trainer = make_trainer(ScriptedTrainer, eval_dataset=questions.select(range(4)), per_device_eval_batch_size=8)
    trainer.train()
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_loss"])
    assert not any(name.startswith("eval_df/") for name in metrics)


def test_what_cannot_be_right_is_refused(make_trainer: Callable[..., Any], tmp_path: Any) -> None:
    for changes, message in [
        ({"loss_type": "bnpo"}, "loss_type='bnpo' is not that of objective='grpo'"),
        ({"importance_sampling_level": "sequence"}, "choose the objective: .*gspo"),
        ({"objective": "gsop"}, "Did you mean 'gspo'"),
        ({"objective": "ppo"}, "TRL has no PPO trainer: use host: verl"),
        ({"objective": "dpo"}, "use DFDPOTrainer"),
        ({"objective": "gspo", "use_bias_correction_kl": True}, "switch it off"),
        ({"length_norm": "weights", "objective": "dr_grpo"}, "use length_norm='tokens'"),
        ({"length_norm": "weights", "objective": "dapo", "beta": 0.1}, "use beta=0"),
        ({"mask_truncated_completions": True}, "penalise truncation"),
        ({"scale_rewards": "batch"}, "use 'group' or 'none'"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "use 'sum_then_normalize'"),
        ({"entropy_coef": 0.1}, "use beta"),
        ({"top_entropy_quantile": 0.2}, "leave it at 1.0"),
        ({"off_policy_mask_threshold": 0.1}, "leave it None"),
        ({"use_liger_kernel": True}, "leave it off"),
        ({"weights": "off"}, "choose one of mask, ones"),
        ({"length_norm": "rows"}, "choose one of tokens, weights"),
        ({"reference": "answer"}, "needs answer_column"),
    ]:
        with pytest.raises(ConfigError, match=message):
            DFGRPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **changes)
    with pytest.raises(ConfigError, match=r"repairer.*weights='ones'"):
        make_trainer(DFGRPOTrainer, repairer=None)
    with pytest.raises(ConfigError, match="needs a DFGRPOConfig"):
        make_trainer(DFGRPOTrainer, config_kind=GRPOConfig)


def test_a_repairer_that_loses_requests_is_an_error(make_trainer: Callable[..., Any]) -> None:
    class Lossy(FlipParity):
        def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
            return super().repair(requests, num_samples)[1:]

    trainer = make_trainer(ScriptedTrainer, repairer=Lossy())
    with pytest.raises(DataError, match=r"Lossy.repair returned \d+ lists for \d+ requests"):
        first_batch(trainer)
