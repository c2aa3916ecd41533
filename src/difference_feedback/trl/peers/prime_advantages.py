"""PRIME's equations, on tensors alone. [arXiv 2502.01456, Eqs. 3-5]

The implicit reward of a token is `r_t = beta (log pi_phi(y_t) - log pi_ref(y_t))`, that of an answer their sum. The
`group_size` answers to one prompt stand together. Answers that were not judged have the outcome NaN.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


def leave_one_out(values: torch.Tensor, group_size: int) -> torch.Tensor:
    """The mean of each value's siblings, `(N,)`, without itself and without NaN; NaN where there are none."""
    groups = values.view(-1, group_size)
    known = groups.isfinite()
    others = known.sum(1, keepdim=True) - known.long()
    sums = torch.where(known, groups, 0.0).sum(1, keepdim=True) - torch.where(known, groups, 0.0)
    return torch.where(others > 0, sums / others, torch.nan).view(-1)


def in_range(right: torch.Tensor, group_size: int, low: float, high: float) -> torch.Tensor:
    """Answers `(N,)` to prompts whose share of right answers is in `[low, high]`. `right`: 0, 1, or NaN (unjudged)."""
    share = right.view(-1, group_size).nanmean(dim=1, keepdim=True)
    kept = (share >= low) & (share <= high)  # False for NaN
    return kept.expand(-1, group_size).reshape(-1) & right.isfinite()


def discounted_returns(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    """`R_t = sum_{s >= t} gamma^(s - t) r_s`, `(B, T)`. Rewards of padding are 0."""
    returns, following = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    for t in range(rewards.size(1) - 1, -1, -1):
        following = rewards[:, t] + gamma * following
        returns[:, t] = following
    return returns


def prime_advantages(
    rewards: torch.Tensor,
    mask: torch.Tensor,
    reward_baselines: torch.Tensor,
    outcomes: torch.Tensor,
    outcome_baselines: torch.Tensor,
    gamma: float,
) -> torch.Tensor:
    """Eq. 5, `(B, T)`: the return of process rewards minus their baseline, plus the outcome minus its baseline.

    Args:
        rewards: implicit process rewards `(B, T)`.
        mask: 1 for the tokens of answers, `(B, T)`.
        reward_baselines: mean over an answer's siblings of their mean process reward a token, `(B,)`. The equation
            writes `r_phi(y)`, which is the sum elsewhere; its text and the authors' code take the average.
        outcomes, outcome_baselines: an answer's reward, and the mean of its siblings', `(B,)`.

    Rows whose outcome or its baseline is NaN are compared with nothing: their advantages are 0. Rewards that are no
    numbers stay so, which ends the run.
    """
    process = discounted_returns((rewards - reward_baselines[:, None]) * mask, gamma)
    outcome = (outcomes - outcome_baselines)[:, None]
    return torch.where(outcome.isfinite(), (process + outcome) * mask, 0.0)


def prm_loss(answer_rewards: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of `sigmoid(r_phi(y))` on the outcomes, summed over answers. [Algorithm 1, line 8] Both `(B,)`."""
    return binary_cross_entropy_with_logits(answer_rewards, right, reduction="sum")


def ordered_share(answer_rewards: torch.Tensor, right: torch.Tensor, group_size: int) -> float | None:
    """Of all pairs of a right and a wrong answer to one prompt, the share whose right one has the higher reward.

    Ties count half; None if there is no pair. [Sec. 5.1, Fig. 5]
    """
    higher, pairs = 0.0, 0
    for rewards, rights in zip(answer_rewards.view(-1, group_size), right.view(-1, group_size), strict=True):
        difference = rewards[rights == 1][:, None] - rewards[rights == 0][None]
        higher += float((difference > 0).sum()) + 0.5 * float((difference == 0).sum())
        pairs += difference.numel()
    return higher / pairs if pairs else None
