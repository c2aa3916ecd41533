"""An unjudged answer takes no part in the update: it does not count in the mean and has no advantage."""

import pytest
import torch
from trl import GRPOConfig

from difference_feedback import world
from difference_feedback.trl import ExactResume
from difference_feedback.world import nano


def test_in_plain_grpo_the_unjudged_have_no_advantage_and_move_no_mean(tmp_path, monkeypatch):
    batches = []
    loss = ExactResume._compute_loss
    monkeypatch.setattr(
        ExactResume, "_compute_loss", lambda self, model, batch: batches.append(batch) or loss(self, model, batch)
    )

    def reward(completions, completion_ids, **_):
        return [(1.0, None, 0.0, 1.0)[i % 4] for i in range(len(completions))]

    args = GRPOConfig(
        **{"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1},
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
