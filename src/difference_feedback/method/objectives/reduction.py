"""From per-token terms to one number: the sums, and what they are divided by. [DF, Eqs. 22-23, 28]"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives.preference import pair_index
from difference_feedback.method.objectives.registry import find_objective

LengthNorm = Literal["tokens", "weights"]


def loss_count(
    weights: Tensor,
    mask: Tensor,
    objective: str = "grpo",
    length_norm: LengthNorm = "tokens",
    max_tokens: float | None = None,
    pairs: Tensor | None = None,
) -> Tensor:
    """What `surrogate_loss` divides its sum by, a scalar: rows, tokens or pairs, as the objective's paper has it.

    It is for batches in parts, that is ranks and micro-batches. Add up the counts of the parts and give the sum to
    `surrogate_loss` as `count`: the losses of the parts, and their gradients, then add up to those of the whole batch.
    (Where gradients are averaged over ranks and not summed, multiply by the number of ranks.) A row stays whole, and a
    pair stays in one part. The arguments are those of `surrogate_loss`.
    """
    check_reduction(objective, length_norm, max_tokens, pairs)
    mask, weights = mask.bool(), weights.to(torch.promote_types(weights.dtype, torch.float32))
    reduction = find_objective(objective).reduction
    if reduction == "batch":
        return _counted(weights, mask, length_norm).sum()
    if reduction == "pair":
        assert pairs is not None
        return mask.new_tensor(len(pair_index(mask, pairs)[0]), dtype=torch.long)
    rows = mask.any(1).sum()
    return rows if max_tokens is None else rows * max_tokens


def total(
    terms: Tensor,
    weights: Tensor,
    mask: Tensor,
    objective: str,
    length_norm: LengthNorm = "tokens",
    pairs: Tensor | None = None,
) -> Tensor:
    """The sum of which `loss_count` is the divisor, a scalar. `terms` are `(B, T)`, 0 at padding; `mask` is boolean."""
    reduction = find_objective(objective).reduction
    if reduction == "sequence":
        return quotient(terms.sum(1), _counted(weights, mask, length_norm).sum(1)).sum()
    if reduction == "pair":
        assert pairs is not None
        numbers, index = pair_index(mask, pairs)
        margins = terms.new_zeros(len(numbers)).index_add(0, index, terms.sum(1)[mask.any(1)])
        return logsigmoid(margins).sum()
    return terms.sum()


def quotient(total: Tensor, count: Tensor) -> Tensor:
    """`total / count`, and `total` itself, which is 0 then, where nothing was counted."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def check_reduction(objective: str, length_norm: str, max_tokens: float | None, pairs: Tensor | None) -> None:
    """Refuse options that the objective's reduction does not have, or lacks.

    Raises:
        ConfigError: with what to give instead.
    """
    reduction = find_objective(objective).reduction
    if length_norm not in get_args(LengthNorm):
        raise ConfigError(f'length_norm is {length_norm!r}; choose "tokens" or "weights"')
    if length_norm == "weights" and reduction in ("constant", "pair"):
        why = "divides by a constant" if reduction == "constant" else "sums over tokens and divides by none"
        raise ConfigError(f'length_norm is "weights", and objective {objective!r} {why}; leave it at "tokens"')
    if (max_tokens is not None) != (reduction == "constant"):
        raise ConfigError(
            f"objective {objective!r} needs max_tokens, the constant that divides an answer: the generation limit"
            if max_tokens is None
            else f"max_tokens is {max_tokens}, and objective {objective!r} divides by no constant; leave it out"
        )
    if max_tokens is not None and not max_tokens > 0:
        raise ConfigError(f"max_tokens is {max_tokens}; give a number above 0")
    if (pairs is not None) != (reduction == "pair"):
        raise ConfigError(
            f"objective {objective!r} needs pairs, (B,): the number of the pair that each row belongs to"
            if pairs is None
            else f"pairs are given, and objective {objective!r} has none; leave them out"
        )


def _counted(weights: Tensor, mask: Tensor, length_norm: LengthNorm) -> Tensor:
    return mask.to(weights.dtype) if length_norm == "tokens" else torch.where(mask, weights, 0.0)
