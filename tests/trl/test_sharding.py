"""Weights that are sharded over ranks: the launch configurations, and what would hang."""

from pathlib import Path
from typing import Any

import pytest
import trl_world
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from difference_feedback.errors import ConfigError
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.trl.config import refuse_shared_shards

CONFIGS = Path(__file__).parents[2] / "recipes" / "accelerate"


def test_the_launch_configurations_load() -> None:
    """accelerate itself rejects unknown keys."""
    fsdp, zero = (load_config_from_file(str(CONFIGS / name)) for name in ("fsdp2.yaml", "zero3.yaml"))
    assert (fsdp.distributed_type, fsdp.num_processes) == (DistributedType.FSDP, 8)
    assert fsdp.fsdp_config["fsdp_version"] == 2
    assert (zero.distributed_type, zero.num_processes) == (DistributedType.DEEPSPEED, 8)
    assert zero.deepspeed_config["zero_stage"] == 3


@pytest.mark.parametrize(
    ("distributed", "stage", "hangs"),
    [
        (DistributedType.FSDP, 0, True),
        (DistributedType.DEEPSPEED, 3, True),
        (DistributedType.DEEPSPEED, 2, False),
        (DistributedType.MULTI_GPU, 0, False),
    ],
)
def test_a_repair_model_on_shards_is_refused(base: Path, distributed: Any, stage: int, hangs: bool) -> None:
    policy, processor = trl_world.load(base)
    other, _ = trl_world.load(base)
    refuse_shared_shards(LocalRepairer(other, processor, style="nano"), policy, distributed, stage)
    refuse_shared_shards(trl_world.FlipParity(), policy, distributed, stage)
    shared = LocalRepairer(policy, processor, style="nano")
    if hangs:
        with pytest.raises(ConfigError, match="weights of its own"):
            refuse_shared_shards(shared, policy, distributed, stage)
    else:
        refuse_shared_shards(shared, policy, distributed, stage)
