"""From per-token terms to one number: the sums and their divisors. [DF, Eqs. 22-23, 28]"""

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
    """The divisor in `surrogate_loss`, a scalar: a number of rows, tokens or pairs, as in the objective's paper.

    Use it when a batch is split into parts, such as ranks or micro-batches. Add up the counts of the parts and pass the
    sum to `surrogate_loss` as `count`. The losses of the parts, and their gradients, then add up to those of the whole
    batch. (If gradients are averaged over ranks instead of summed, multiply the loss by the number of ranks.) A part
    must hold whole rows and whole pairs. The arguments are those of `surrogate_loss`.
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
    """The sum that `loss_count` divides, a scalar. `terms` are `(B, T)` and 0 at padding; `mask` is boolean."""
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
    """`total / count`; where `count` is 0, `total` itself, which is then 0."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def check_reduction(objective: str, length_norm: str, max_tokens: float | None, pairs: Tensor | None) -> None:
    """Check that the options fit the objective's reduction.

    Raises:
        ConfigError: an option does not belong to the reduction, is missing, or is out of range.
    """
    reduction = find_objective(objective).reduction
    if length_norm not in get_args(LengthNorm):
        raise ConfigError(f'length_norm is {length_norm!r}; choose "tokens" or "weights"')
    if length_norm == "weights" and reduction in ("constant", "pair"):
        why = "divides by a constant" if reduction == "constant" else "does not divide by a number of tokens"
        raise ConfigError(f'length_norm is "weights", but objective {objective!r} {why}; leave it at "tokens"')
    if (max_tokens is not None) != (reduction == "constant"):
        raise ConfigError(
            f"objective {objective!r} needs max_tokens, the constant that divides an answer; give the generation limit"
            if max_tokens is None
            else f"max_tokens is {max_tokens}, but objective {objective!r} does not divide by a constant; leave it out"
        )
    if max_tokens is not None and not max_tokens > 0:
        raise ConfigError(f"max_tokens is {max_tokens}; give a number above 0")
    if (pairs is not None) != (reduction == "pair"):
        raise ConfigError(
            f"objective {objective!r} needs pairs; give the number of each row's pair, (B,)"
            if pairs is None
            else f"pairs are given, but objective {objective!r} does not use them; leave them out"
        )


def _counted(weights: Tensor, mask: Tensor, length_norm: LengthNorm) -> Tensor:
    return mask.to(weights.dtype) if length_norm == "tokens" else torch.where(mask, weights, 0.0)
