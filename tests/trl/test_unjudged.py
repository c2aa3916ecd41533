"""An unjudged answer takes no part in the update: it does not count in the mean and has no advantage."""

import warnings

import pytest
import torch
from trl_world import ScriptedTrainer

from difference_feedback import world
from difference_feedback.judges.reward_sum import weighted_sums
from difference_feedback.policy.wrong_answers import WrongAnswers
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.trl import ExactResume
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.rollouts import half_judged, total_rewards, unjudged
from difference_feedback.world import nano


def test_in_plain_grpo_the_unjudged_have_no_advantage_and_move_no_mean(tmp_path, monkeypatch):
    batches = []
    loss = ExactResume._compute_loss
    monkeypatch.setattr(
        ExactResume, "_compute_loss", lambda self, model, batch: batches.append(batch) or loss(self, model, batch)
    )

    def reward(completions, completion_ids, **_):
        return [(1.0, None, 0.0, 1.0)[i % 4] for i in range(len(completions))]

    args = LeanGRPOConfig(
        **{"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1},
        **{"leave_out_rows": False},
        **{"max_completion_length": 4, "loss_type": "grpo", "beta": 0.0, "bf16": False, "use_cpu": True},
        **{"gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"},
    )
    model, processor = nano.build(seed=0)
    dataset = world.to_dataset(world.sample_problems("rl", 2, 0))
    ExactResume(model, reward, args, train_dataset=dataset, processing_class=processor).train()
    [batch] = batches
    judged = torch.tensor([1.0, 0.0, 1.0])
    expected = (judged - judged.mean()) / (judged.std() + 1e-4)
    advantages = batch["advantages"].flatten().sort().values.tolist()
    assert advantages == pytest.approx(sorted([*expected.tolist(), 0.0]), abs=1e-3)


def test_an_answer_is_judged_when_every_function_that_decides_has_judged_it():
    nan = torch.nan
    rewards = torch.tensor([[1.0, 0.5, 2.0], [nan, 1.0, 2.0], [1.0, nan, 2.0], [1.0, 0.5, nan], [nan, nan, nan]])
    weights = torch.tensor([1.0, 0.2, 0.0])
    assert unjudged(rewards, weights).tolist() == [False, True, True, False, True]
    totals = total_rewards(rewards, weights)
    assert totals.tolist() == pytest.approx([1.1, nan, nan, 1.1, nan], nan_ok=True)
    functions = [lambda column=column, **_: [None if v != v else v for v in column] for column in rewards.T.tolist()]
    sums = weighted_sums(functions, weights.tolist())
    assert [nan if value is None else value for value in sums] == pytest.approx(totals.tolist(), nan_ok=True)


def test_functions_that_each_leave_out_the_other_task_are_named():
    nan = torch.nan
    names, weights = ["count", "chart", "log"], torch.tensor([1.0, 1.0, 0.0])
    tasks = torch.tensor([[1.0, nan, 0.5], [nan, 0.0, nan]])
    warning = half_judged(tasks, weights, names)
    assert warning is not None
    assert "count, chart, which" in warning
    assert "0.0" in warning
    outage = torch.tensor([[nan, 0.0, 0.5], [nan, 1.0, 0.5]])
    assert "functions count, which" in str(half_judged(outage, weights, names))
    for judged in ([1.0, 1.0, nan], [nan, nan, nan]):  # one row that all have judged, or none has
        assert half_judged(torch.cat([tasks, torch.tensor([judged])]), weights, names) is None


def test_a_run_in_which_every_answer_is_half_judged_warns_once_and_goes_on(make_trainer):
    def grade(parity):
        return lambda completions, **_: [float(i) if i % 2 == parity else None for i in range(len(completions))]

    trainer = make_trainer(ScriptedTrainer, reward_funcs=[grade(0), grade(1)], max_steps=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    assert sum("choose by the row's task" in str(warning.message) for warning in caught) == 1
    assert trainer.state.global_step == 2


def test_wrong_answers_are_kept_only_where_all_have_judged(tmp_path):
    rows = [{"id": str(i // 2), "prompt": [{"role": "user", "content": "?"}], "images": []} for i in range(4)]
    rewards = torch.tensor([[torch.nan, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    keep = WrongAnswers(tmp_path, 9, [1.0, 1.0], 1.5)
    keep(rows, [[{"role": "assistant", "content": f"a{i}"}] for i in range(4)], rewards)
    [item] = read_rows(tmp_path / "items.jsonl")
    assert (item["draft"], item["reference"]) == ("a3", "a2")
