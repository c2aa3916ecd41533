"""Two processes over gloo, with groups that span both, train the peers as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import peers_worker
import pytest
import torch
import trl_world
from safetensors.torch import load_file


@pytest.mark.slow
def test_two_ranks_train_peers_as_one(base: Path, tmp_path: Path) -> None:
    for ranks in ("1", "2"):
        (tmp_path / ranks).mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, peers_worker.__file__, str(base), str(tmp_path / "2")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    peers_worker.main(base, tmp_path / "1")
    initial = dict(trl_world.load(base)[0].named_parameters())
    for name in peers_worker.VARIANTS:
        one, two = (load_file(tmp_path / ranks / f"{name}.safetensors") for ranks in ("1", "2"))
        moved = max(float((value - initial[key].detach()).abs().max()) for key, value in one.items())
        assert moved > 1e-4, name
        for key, value in one.items():
            torch.testing.assert_close(value, two[key], rtol=0, atol=1e-3 * moved, msg=f"{name}: {key}")
        rows = [json.loads((tmp_path / ranks / f"{name}.json").read_text()) for ranks in ("1", "2")]
        for on_one, on_two in zip(*rows, strict=True):
            for metric in ("reward", *(metric for metric in on_one if metric.startswith("prime/"))):
                assert on_two[metric] == pytest.approx(on_one[metric], rel=1e-3), (name, metric)
