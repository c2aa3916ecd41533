"""Start processes as a user does: `accelerate launch` with a shipped configuration, or `torchrun`."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BACKENDS = ("ddp", "fsdp2", "zero3", "zero2")
"""Configurations of `recipes/accelerate`."""


def python(*words: object, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` on the CPU, with one thread a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_TORCH_DEVICE": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, timeout=timeout
    )


def one_rank(folder: Path, *cases: str) -> subprocess.CompletedProcess[str]:
    return python(HERE / "ranks.py", folder, *cases)


def two_ranks(backend: str, folder: Path, *cases: str) -> subprocess.CompletedProcess[str]:
    """The shipped configuration as it is, but for the number of processes and the precision."""
    words = ["--config_file", ROOT / "recipes" / "accelerate" / f"{backend}.yaml"]
    words += ["--num_processes", 2, "--mixed_precision", "no", "--main_process_port", 0]
    return python("-m", "accelerate.commands.launch", *words, HERE / "ranks.py", folder, *cases)


def torchrun(ranks: int, *words: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, *words)
