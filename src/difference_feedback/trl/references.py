"""Which wrong answers get a repair, and with which correct answer as its reference. [DF, Sec. 3, Eqs. 5-7, 11-13]"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from difference_feedback.method.groups import SkipReason, choose_reference, skip_reason, split_by_reward


@dataclass(frozen=True)
class References:
    texts: dict[int, str] = field(default_factory=dict)
    """Row of a wrong answer -> its reference."""
    skipped: Counter[SkipReason] = field(default_factory=Counter)
    """Prompts for which no repair is asked, by reason."""


def choose_references(
    rewards: npt.NDArray[np.float64],
    texts: Sequence[str],
    answers: Sequence[str | None],
    group_size: int,
    threshold: float,
    source: str,
    rng: np.random.Generator,
) -> References:
    """Choose references over all ranks' rows, `(N,)`, `group_size` rows a prompt.

    Every rank calls this with the same rows and an equal generator, so all agree, and the choice does not depend on how
    rows are spread over ranks. `source` is `DFGRPOConfig.reference`.
    """
    chosen = References()
    for start in range(0, len(rewards), group_size):
        split = split_by_reward(rewards[start : start + group_size], threshold)
        answer = None if source == "sibling" else answers[start]
        siblings = source != "answer" and len(split.correct) > 0
        reason = skip_reason(split, annotated=answer is not None)
        if reason is None and not siblings and answer is None:
            reason = SkipReason.NO_REFERENCE
        if reason is not None:
            chosen.skipped[reason] += 1
            continue
        for row in split.wrong.tolist():
            text = texts[start + choose_reference(split, rng)] if siblings else answer
            assert text is not None
            chosen.texts[start + row] = text
    return chosen
