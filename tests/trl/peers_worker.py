"""Trains the peers on the ranks it is launched with, and saves rank 0's weights and metrics.

Usage: torchrun --nproc-per-node 2 peers_worker.py BASE_MODEL OUTPUT_FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import trl_world
from safetensors.torch import save_file

from difference_feedback.trl.peers import ARGRPOConfig, ARGRPOTrainer, PRIMEConfig, PRIMETrainer

ROWS = 12
"""Rows of a batch over all ranks: three questions with four answers, so the second spans two ranks."""


class ScriptedPRIME(trl_world.ScriptedRollouts, PRIMETrainer):
    pass


class ScriptedAR(trl_world.ScriptedRollouts, ARGRPOTrainer):
    pass


PRIME = {"prm_learning_rate": 1e-2, "prm_beta": 1.0, "prompt_accuracy_high": 0.5}
VARIANTS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "prime": (ScriptedPRIME, PRIMEConfig, PRIME),
    "ar-grpo": (ScriptedAR, ARGRPOConfig, {"ar_alpha": 0.5}),
}


def main(base: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    for name, (kind, config, changes) in VARIANTS.items():
        model, processor = trl_world.load(base)
        # Plain SGD: Adam would blow the rounding of another order of summation up to the size of a step.
        settings = {"max_steps": 3, "optim": "sgd", "learning_rate": 0.2, "max_grad_norm": 0.0} | changes
        rows = ROWS // int(os.environ.get("WORLD_SIZE", "1"))
        args = trl_world.config(folder, config, per_device_train_batch_size=rows, **settings)
        data = trl_world.questions()
        trainer = kind(model, trl_world.parity, args, train_dataset=data, processing_class=processor)
        trainer.train()
        if trainer.accelerator.is_main_process:
            policy = trainer.accelerator.unwrap_model(trainer.model)
            weights = {key: value.detach().contiguous().clone() for key, value in policy.named_parameters()}
            save_file(weights, folder / f"{name}.safetensors")
            logged = [row for row in trainer.state.log_history if "reward" in row]
            (folder / f"{name}.json").write_text(json.dumps(logged))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # as in ranks_worker.py
