"""Two processes over gloo, with groups that span both, train the weights that one process trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_worker
import torch
import trl_world
from safetensors.torch import load_file


@pytest.mark.slow
def test_two_ranks_equal_one(base: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        (tmp_path / str(ranks)).mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, ranks_worker.__file__, str(base), str(tmp_path / "2")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ranks_worker.main(base, tmp_path / "1")

    initial = dict(trl_world.load(base)[0].named_parameters())
    for name in ranks_worker.VARIANTS:
        one, two = (load_file(tmp_path / ranks / f"{name}.safetensors") for ranks in ("1", "2"))
        assert one.keys() == two.keys() == initial.keys()
        moved = max(float((value - initial[key].detach()).abs().max()) for key, value in one.items())
        assert moved > 1e-3, name
        for key, value in one.items():
            torch.testing.assert_close(value, two[key], rtol=0, atol=1e-3 * moved, msg=f"{name}: {key}")
        rows = [json.loads((tmp_path / ranks / f"{name}.json").read_text()) for ranks in ("1", "2")]
        assert len(rows[0]) == len(rows[1]) >= 1
        for on_one, on_two in zip(*rows, strict=True):
            for metric, value in on_one.items():
                if metric.startswith("df/") and not any(
                    w in metric for w in ("seconds", "/wall/", "/cpu/", "filler_rows")
                ):
                    assert on_two[metric] == pytest.approx(value), (name, metric)
    assert sum(row["df/pairs"] for row in rows[0]) > 3
    ranks = [json.loads((tmp_path / "2" / f"{name}-ranks.json").read_text()) for name in ranks_worker.VARIANTS]
    for here, there in ranks:
        assert here["rows"] == there["rows"]
        assert here["fillers"] + there["fillers"] <= 1
        # A rank has six answers a micro-batch: no more rows than that can be too many on it, in each of two batches.
        assert sum(here["sent"] + there["sent"]) <= 2 * 12 * here["largest"]
    assert any(here["sent"] or there["sent"] for here, there in ranks)
