"""What eight ranks run that start together on the same folders.

Usage: torchrun --nproc-per-node 8 open_runs.py FOLDER TIMES
"""

import sys
from pathlib import Path

import pytest
import torch

from difference_feedback.errors import ConfigError
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import EvaluateRecipe


def main(folder: Path, times: int) -> None:
    torch.distributed.init_process_group("gloo")  # for the barriers: all ranks open a folder at the same moment
    recipe = EvaluateRecipe()
    other = EvaluateRecipe(seed=1)

    def opened(name: str, recipe: EvaluateRecipe = recipe, **options: bool) -> Run:
        torch.distributed.barrier()
        run = Run(folder / name, recipe, **options)
        assert load_recipe(run.folder / "config.yaml", EvaluateRecipe) == recipe
        assert run.versions["seed"] == recipe.seed
        torch.distributed.barrier()
        return run

    for i in range(times):
        run = opened(f"run-{i}")
        assert not run.resumed
        if torch.distributed.get_rank() == 0:
            run.log(step=1, reward=0.5)
        assert opened(f"run-{i}").resumed
        with pytest.raises(ConfigError, match="another recipe"):
            opened(f"run-{i}", other)
        assert not opened(f"run-{i}", other, overwrite=True).resumed
        assert not run.metrics_path.exists()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
