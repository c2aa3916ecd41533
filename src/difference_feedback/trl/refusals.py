"""What the trainer refuses when it is made, because it would hang or compute something else."""

from collections.abc import Mapping
from typing import Any

from accelerate.utils import DistributedType
from torch import nn

from difference_feedback.errors import ConfigError


def refuse_foreign_rollouts(trl_arguments: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for rollouts that the trainer does not sample itself."""
    for name in ("tools", "environment_factory", "rollout_func"):
        if trl_arguments.get(name):
            raise ConfigError(f"{name}: answers with tool calls or from elsewhere cannot be repaired; leave it out.")


def refuse_shared_shards(repairer: Any, policy: nn.Module, distributed: DistributedType, zero_stage: int) -> None:
    """Raise `ConfigError` for a repair model on weights that are cut up over the ranks.

    Each rank asks for as many repairs as it has wrong answers. Where every forward pass gathers shards from all ranks,
    the ranks with fewer would leave the others waiting.
    """
    sharded = distributed == DistributedType.FSDP or (distributed == DistributedType.DEEPSPEED and zero_stage == 3)
    model = getattr(repairer, "model", None)
    if not sharded or not isinstance(model, nn.Module):
        return
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in own for parameter in policy.parameters()):
        raise ConfigError(
            "The repair model shares the policy's weights, which are cut up over the ranks: ranks that ask for unequal "
            "numbers of repairs would wait for each other. Give it weights of its own (LocalRepairer.from_pretrained "
            "holds a whole copy on each rank), or a server (repairs.via: vllm)."
        )
