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
    """accelerate itself rejects unknown keys. `tests/distributed` trains with them."""
    names = ("ddp", "fsdp2", "zero2", "zero3")
    ddp, fsdp, zero2, zero3 = (load_config_from_file(str(CONFIGS / f"{name}.yaml")) for name in names)
    assert {config.num_processes for config in (ddp, fsdp, zero2, zero3)} == {8}
    assert (ddp.distributed_type, fsdp.distributed_type) == (DistributedType.MULTI_GPU, DistributedType.FSDP)
    assert zero2.distributed_type == zero3.distributed_type == DistributedType.DEEPSPEED
    assert fsdp.fsdp_config["fsdp_version"] == 2
    assert [config.deepspeed_config["zero_stage"] for config in (zero2, zero3)] == [2, 3]


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
    next(other.parameters()).ds_id = 0  # what marks a part of a ZeRO-3 model
    if hangs:
        with pytest.raises(ConfigError, match="from_pretrained"):
            refuse_shared_shards(LocalRepairer(other, processor, style="nano"), policy, distributed, stage)
    shared = LocalRepairer(policy, processor, style="nano")
    if hangs:
        with pytest.raises(ConfigError, match="weights of its own"):
            refuse_shared_shards(shared, policy, distributed, stage)
    else:
        refuse_shared_shards(shared, policy, distributed, stage)
