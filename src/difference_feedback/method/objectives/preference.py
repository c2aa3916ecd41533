"""DPO on a wrong answer and its repair: the weights act inside the sequence log-ratios. [DF, Eq. 10]"""

import torch
from torch import Tensor

from difference_feedback.errors import DataError
from difference_feedback.method.objectives.registry import Sharpness, register


@register("dpo", reduction="pair", settings=Sharpness(0.1))
def dpo(log_ratio: Tensor, signs: Tensor, mask: Tensor, sharpness: Sharpness) -> Tensor:
    """Terms `β z_t log(π_θ(o_t)/π_ref(o_t))` of a pair's margin, `(B, T)`. [DF, Eq. 10; DPO, arXiv 2305.18290, Eq. 7]

    `z_t` is `w̃_t` on the preferred answer and `-w_t` on the rejected one. With `h` the sum over both answers' tokens,

        J = 1/P Σ_pairs log σ(h),    ∇J = 1/P Σ_pairs σ(-h) β Σ_t z_t ∇log π_θ(o_t),

    which is Eq. 10 with `A = ±β σ(-h)`. The weights act inside the log-odds of the pair, so a token of weight 0 has no
    part in `h` either. Tokens that both answers share therefore cannot make a pair look decided.
    """
    return sharpness.beta * signs * log_ratio


def preference_signs(advantages: Tensor, mask: Tensor, pairs: Tensor) -> Tensor:
    """`+1` for preferred and `-1` for rejected answers, `(B,)`, from the sign of their advantages.

    Args:
        advantages: `(B,)`; only the sign is used, so the advantages of a group of pairs can be passed as they are.
        mask: boolean `(B, T)`; a row of padding alone belongs to no pair.
        pairs: `(B,)` integers; a preferred and a rejected row with the same number are a pair.

    Raises:
        DataError: the shapes do not match, or a pair is not one preferred and one rejected answer.
    """
    if advantages.dim() != 1:
        raise DataError(
            f"advantages have shape {tuple(advantages.shape)}; DPO compares whole answers, so give one per answer, (B,)"
        )
    numbers, index = pair_index(mask, pairs)
    signs = torch.sign(advantages)
    row_signs = signs[mask.any(1)]
    preferred, rejected = (
        torch.zeros_like(numbers).index_add(0, index, side.long()) for side in (row_signs > 0, row_signs < 0)
    )
    bad = (preferred != 1) | (rejected != 1) | (torch.bincount(index, minlength=len(numbers)) != 2)
    if bad.any():
        raise DataError(
            f"pairs: number {numbers[bad][0].item()} is not one row with an advantage above 0 and one with an "
            "advantage below 0; leave out wrong answers that have no repair"
        )
    return signs


def pair_index(mask: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the pairs in ascending order, `(P,)`, and the index into them of each row that is not padding."""
    if pairs.shape != mask.shape[:1] or pairs.is_floating_point():
        raise DataError(
            f"pairs have shape {tuple(pairs.shape)} and type {pairs.dtype}; give one integer for each of the "
            f"{len(mask)} rows"
        )
    numbers, index = torch.unique(pairs[mask.any(1)].long(), return_inverse=True)
    return numbers, index
