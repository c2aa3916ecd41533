"""DPO on a wrong answer and its repair: the gates go inside the sequence log-ratios. [DF, Eq. 10]"""

import torch
from torch import Tensor

from difference_feedback.errors import DataError
from difference_feedback.method.objectives.registry import Sharpness, register


@register("dpo", reduction="pair", settings=Sharpness(0.1))
def dpo(log_ratio: Tensor, signs: Tensor, mask: Tensor, sharpness: Sharpness) -> Tensor:
    """Terms `β z_t log(π_θ(o_t)/π_ref(o_t))` of a pair's margin, `(B, T)`. [DF, Eq. 10; DPO, arXiv 2305.18290, Eq. 7]

    `z_t` is `w̃_t` on the preferred answer and `-w_t` on the rejected one. With `h` the sum over both answers' tokens,

        J = 1/P Σ_pairs log σ(h),    ∇J = 1/P Σ_pairs σ(-h) β Σ_t z_t ∇log π_θ(o_t),

    which is Eq. 10 with `A = ±β σ(-h)`. The gate is inside the logarithm of the pair's odds, so a token of weight 0 has
    no part in `h` either: the tokens that both answers share cannot make a pair look settled.
    """
    return sharpness.beta * signs * log_ratio


def preference_signs(advantages: Tensor, mask: Tensor, pairs: Tensor) -> Tensor:
    """`+1` for preferred and `-1` for rejected answers, `(B,)`, from the sign of their advantages.

    Args:
        advantages: `(B,)`; only the sign is read, so that the advantages of a group of pairs serve as they are.
        mask: boolean `(B, T)`; a row of nothing but padding belongs to no pair.
        pairs: `(B,)` integers; a preferred and a rejected row that share a number are a pair.

    Raises:
        DataError: shapes that do not fit, or a pair that is not one preferred and one rejected answer.
    """
    if advantages.dim() != 1:
        raise DataError(f"advantages have shape {tuple(advantages.shape)}; DPO prefers whole answers, give (B,)")
    numbers, index = pair_index(mask, pairs)
    signs = torch.sign(advantages)
    own = signs[mask.any(1)]
    preferred, rejected = (torch.zeros_like(numbers).index_add(0, index, side.long()) for side in (own > 0, own < 0))
    bad = (preferred != 1) | (rejected != 1) | (torch.bincount(index, minlength=len(numbers)) != 2)
    if bad.any():
        raise DataError(
            f"pair {numbers[bad][0].item()} is not one row with an advantage above 0 and one with an advantage below; "
            "leave out wrong answers that have no repair"
        )
    return signs


def pair_index(mask: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the pairs, ascending, `(P,)`, and for each row that is not padding its place among them."""
    if pairs.shape != mask.shape[:1] or pairs.is_floating_point():
        raise DataError(
            f"pairs have shape {tuple(pairs.shape)}, type {pairs.dtype}; give each of the {len(mask)} rows an integer"
        )
    numbers, index = torch.unique(pairs[mask.any(1)].long(), return_inverse=True)
    return numbers, index
