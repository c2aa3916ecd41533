"""How edits become weights: the settings that all hosts share. [DF, Eqs. 8-9]"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import Alignment, AlignmentMethod
from difference_feedback.method.masks import FloatArray, Granularity, Side, step_ids, token_weights

TokenTexts = Callable[[Sequence[int]], list[str]]


@dataclass(kw_only=True)
class MaskSettings:
    """From an alignment to the weights of one side's tokens."""

    alignment_method: AlignmentMethod = field(
        default="levenshtein", metadata={"help": "Edit path between wrong answer and repair."}
    )
    anchor_gaps: bool = field(default=True, metadata={"help": "A gap marks its place on the other side as well."})
    granularity: Granularity = field(
        default="token", metadata={"help": "`step` marks the whole sentence or line around a marked token."}
    )
    sigma: float | None = field(
        default=None, metadata={"help": "Soft weights exp(-d / sigma), d in tokens. None: the hard mask."}
    )
    root_cause: bool = field(
        default=False,
        metadata={"help": "On the wrong side, mark the first edited span alone; beyond the paper."},
    )

    def check_mask(self) -> None:
        """Raise `ConfigError` for a value that is none of a field's."""
        for name, choices in {
            "alignment_method": get_args(AlignmentMethod),
            "granularity": get_args(Granularity),
        }.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}.")
        if self.sigma is not None and not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma}: give a positive number of tokens, or None for the hard mask.")

    @property
    def alignment_options(self) -> dict[str, Any]:
        """Keyword arguments of `align`."""
        return {"method": self.alignment_method, "anchor_gaps": self.anchor_gaps}

    def side_weights(self, alignment: Alignment, side: Side, token_ids: Sequence[int], texts: TokenTexts) -> FloatArray:
        """Weights `(T,)` of the tokens of one side, `token_ids`; `texts` gives the text of each."""
        steps = step_ids(texts(token_ids)) if self.granularity == "step" else None
        return token_weights(alignment, side, self.granularity, steps, self.sigma, root_cause=self.root_cause)
