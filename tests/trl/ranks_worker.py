"""Trains every variant of `VARIANTS` on the ranks it is launched with and saves rank 0's weights and metrics.

Usage: torchrun --nproc-per-node 2 ranks_worker.py BASE_MODEL OUTPUT_FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl_world
from accelerate.utils import gather, gather_object
from datasets import Dataset
from safetensors.torch import save_file

from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.trl.image_rows import select_rows

STEPS = 2
SENT: list[int] = []
"""Bytes of each buffer with rows that this rank has sent to another."""
ROWS = 12
"""Rows of a micro-batch over all ranks: three questions with four answers, so the second spans two ranks."""

VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {},
    "gspo-kl-updates": {"objective": "gspo", "beta": 0.1, "num_iterations": 2},
    "dapo-kl": {"objective": "dapo", "beta": 0.1},
    "sapo-root-cause": {"objective": "sapo", "root_cause": True},
    "cispo-per-weighted-token": {"objective": "cispo", "length_norm": "weights", "sigma": 1.5},
    "siblings": {"sibling_repairs": True, "max_edit_cost": 0.95},
    "mixed": {"shuffle_dataset": False, "ddp_find_unused_parameters": False},
    "rollouts-updates": {"weights": "ones", "regroup": False, "num_iterations": 2, "gradient_accumulation_steps": 2},
    "log-ratio": {"weights": "log_ratio", "regroup": False, "num_repairs": 0, "length_norm": "weights"},
    "dr_grpo-accumulation": {"objective": "dr_grpo", "gradient_accumulation_steps": 2, "empty_feasible": "broadcast"},
}


class Picky(trl_world.FlipParity):
    """Finds a repair for two drafts in three, whichever rank they are on."""

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        repairs = super().repair(requests, num_samples)
        return [[] if sum(r.draft_ids) % 3 == 0 else drawn for r, drawn in zip(requests, repairs, strict=True)]


class Scorer(Picky):
    """Scores two drafts in three, by their tokens, whichever rank they are on."""

    def score(self, requests: list[RepairRequest], temperature: float = 1.0) -> list[np.ndarray | None]:
        drafts = [np.array(request.draft_ids) for request in requests]
        return [None if ids.sum() % 3 == 0 else -4.0 * (ids % 5) for ids in drafts]


class OnOneRank(Picky):
    """Finds repairs on the first rank only."""

    trainer: Any = None

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        if self.trainer.accelerator.process_index:
            return [[] for _ in requests]
        return super().repair(requests, num_samples)


def train(base: Path, folder: Path, repairer: Any, rows: Dataset | None = None, **changes: Any) -> Any:
    model, processor = trl_world.load(base)
    # Plain SGD: Adam would blow the rounding of another order of summation up to the size of a step.
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    settings = {"max_steps": STEPS, "optim": "sgd", "learning_rate": 0.2, "max_grad_norm": 0.0}
    args = trl_world.config(folder, per_device_train_batch_size=ROWS // ranks, **settings, **changes)
    trainer = trl_world.ScriptedTrainer(
        model=model,
        reward_funcs=trl_world.parity,
        args=args,
        train_dataset=rows or trl_world.questions(),
        processing_class=processor,
        repairer=repairer,
    )
    repairer.trainer = trainer
    trainer.train()
    return trainer


def counting_bytes() -> None:
    original = torch.distributed.batch_isend_irecv

    def send(operations: list[torch.distributed.P2POp]) -> Any:
        SENT.extend(each.tensor.numel() for each in operations if each.op is torch.distributed.isend)
        return original(operations)

    torch.distributed.batch_isend_irecv = send


def in_the_update(trainer: Any) -> dict[str, Any]:
    """Of the latest batch of rollouts: this rank's rows, those without tokens or advantage, and what it has sent."""
    rows = [batch for batch in trainer._buffered_inputs if batch]
    fillers = sum(int((batch["advantages"] == 0).sum()) for batch in rows)
    largest = max(
        sum(t.nbytes for t in select_rows(b, [i]).values() if torch.is_tensor(t))
        for b in rows
        for i in range(len(b["prompt_ids"]))
    )
    return {
        "rows": sum(len(b["prompt_ids"]) for b in rows),
        "fillers": fillers,
        "largest": largest,
        "sent": SENT.copy(),
    }


def main(base: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    counting_bytes()
    for name, changes in VARIANTS.items():
        SENT.clear()
        trainer = train(base, folder, Scorer(), mixed_rows() if name.startswith("mixed") else None, **changes)
        everywhere = gather_object([in_the_update(trainer)])
        if trainer.accelerator.is_main_process:
            (folder / f"{name}-ranks.json").write_text(json.dumps(everywhere))
            weights = {
                k: v.contiguous().clone() for k, v in trainer.accelerator.unwrap_model(trainer.model).named_parameters()
            }
            save_file({k: v.detach() for k, v in weights.items()}, folder / f"{name}.safetensors")
            rows = [row for row in trainer.state.log_history if "df/wrong_share" in row]
            (folder / f"{name}.json").write_text(json.dumps(rows))
    if trainer.accelerator.num_processes > 1:
        # Which rows an optimiser step has depends on how many ranks shuffle, so one rank is no measure here.
        every, needed = (train(base, folder, Picky(), steps_per_generation=2, leave_out_rows=c) for c in (False, None))
        assert needed.lean
        for one, other in zip(every.model.parameters(), needed.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        trainer = train(base, folder, OnOneRank())
        norm = sum(p.detach().double().norm() for p in trainer.model.parameters())
        everywhere = gather(norm.reshape(1))
        assert (everywhere == everywhere[0]).all(), "ranks hold different weights"
        assert len(trainer.last_pairs) == 0 or trainer.accelerator.process_index == 0


def mixed_rows() -> Dataset:
    """Half of the questions have no image, among them all of the first step's that the first of two ranks gets."""
    questions = trl_world.questions()
    rows = questions.to_list()
    for row in [rows[i] for i in (0, 1, 4, 6, 7, 9)]:
        row["images"] = []
        row["prompt"][0]["content"] = [part for part in row["prompt"][0]["content"] if part["type"] == "text"]
    return Dataset.from_list(rows, features=questions.features)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # Modules that DDP imports keep references to the group, so gloo's threads outlive its destruction. At the
    # interpreter's own end their handles would be destroyed while they run, which may abort the process: leave without.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
