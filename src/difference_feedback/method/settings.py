"""The settings of the method that all hosts share: their names, defaults and help, and one check of their values."""
# ruff: noqa: RUF009 - `option` returns a dataclass field

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import Alignment, AlignmentMethod
from difference_feedback.method.draft_scores import DRAFT_WEIGHTS
from difference_feedback.method.groups import CorrectRollouts, EmptyFeasible
from difference_feedback.method.masks import FloatArray, Granularity, Side, step_ids, token_weights
from difference_feedback.method.objectives.anchor import RepairedRatio
from difference_feedback.method.token_texts import TokenTexts

_OF_REPAIRS = (
    "alignment_method",
    "anchor_gaps",
    "granularity",
    "sigma",
    "num_repairs",
    "sibling_repairs",
    "max_edit_cost",
    "min_probability",
    "correct_rollouts",
    "repaired_ratio",
)
"""Settings without a meaning where no repairs are made."""
ReferenceSource = Literal["sibling_then_answer", "sibling", "answer"]
Weights = Literal["mask", "ones", "log_ratio", "doubt", "random", "inverted", "wrong_only", "repair_only"]


def option(default: Any, text: str) -> Any:
    """A dataclass field with its help text, as `HfArgumentParser` reads it."""
    return field(default=default, metadata={"help": text})


def refuse(place: str, problems: Iterable[str]) -> None:
    """Raise one `ConfigError` of all `problems`, if there are any; each names its key and the remedy."""
    if messages := [f"{problem}." for problem in problems]:
        raise ConfigError(f"{place}: {' '.join(messages)}")


@dataclass(kw_only=True)
class MaskSettings:
    """From the alignment of two answers to the weights of one side's tokens. [DF, Eqs. 8-9]"""

    alignment_method: AlignmentMethod = option("levenshtein", "Edit path from the wrong answer to the repair.")
    anchor_gaps: bool = option(True, "A gap also marks the token in its place on the other side.")
    granularity: Granularity = option("token", "`step` marks the whole sentence or line around a marked token.")
    sigma: float | None = option(None, "Soft weights exp(-d / sigma), d in tokens. None: the hard mask.")
    root_cause: bool = option(False, "In the wrong answer, mark only the first edited span; beyond the paper.")
    weights: Weights = option(
        "mask",
        "`ones`: the same repairs, every token counts. `log_ratio` and `doubt`: no repairs, but the repair model's "
        "probabilities of the wrong answer's tokens, see method/draft_scores.py. The others are ablations: see "
        "method/ablations.py.",
    )

    def check(self) -> None:
        """Raise `ConfigError` for values that a field cannot have, and for fields that contradict each other."""
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(get_args(hint))}.")
        if self.sigma is not None and not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma}: give a positive number of tokens, or None for the hard mask.")
        if self.root_cause and self.weights != "mask":
            raise ConfigError(f"root_cause=True changes the mask, not weights={self.weights!r}; use weights='mask'.")

    @property
    def alignment_options(self) -> dict[str, Any]:
        """Keyword arguments of `align`."""
        return {"method": self.alignment_method, "anchor_gaps": self.anchor_gaps}

    def side_weights(self, alignment: Alignment, side: Side, token_ids: Sequence[int], texts: TokenTexts) -> FloatArray:
        """Weights `(T,)` of the tokens of one side, `token_ids`."""
        steps = step_ids(texts(token_ids)) if self.granularity == "step" else None
        return token_weights(alignment, side, self.granularity, steps, self.sigma, root_cause=self.root_cause)


@dataclass(kw_only=True)
class PairSettings(MaskSettings):
    """From one prompt's answers and their repairs to the group that is optimised. [DF, Eqs. 5-7, 13-18, 26]"""

    reward_threshold: float = option(1.0, "tau: an answer or a repair is right if its reward is at least this.")
    num_repairs: int = option(2, "K: repairs sampled per wrong answer. 0 needs sibling_repairs, and no repair model.")
    sibling_repairs: bool = option(
        False, "The group's right answers are candidate repairs as well, at no cost; beyond the paper."
    )
    max_edit_cost: float = option(
        1.0, "A repair that changes more than this share of the tokens is not used; beyond the paper. 1: all are used."
    )
    min_probability: float = option(
        0.0,
        "A repair is used only if the policy gives each of its tokens at least this probability: if only its end is "
        "right, other tokens do not follow. Beyond the paper. 0: all right repairs are used.",
    )
    reference: ReferenceSource = option(
        "sibling_then_answer",
        "What a repair is made towards: a right answer drawn uniformly from the group (`sibling`), the annotated "
        "answer (`answer`), or the annotated answer only where the group has no right one.",
    )
    reference_seed: int = option(0, "Seed of the draws of references, and of `weights=random`.")
    empty_feasible: EmptyFeasible = option(
        "drop", "A wrong answer without a right repair is dropped, or kept with weights of one (`broadcast`)."
    )
    correct_rollouts: CorrectRollouts = option(
        "leave", "Right answers leave the group, as in the paper, or stay in it with weights of one (`keep`)."
    )
    regroup: bool = option(
        True,
        "Optimise over wrong answers and their repairs. False keeps the original group and adds no repairs. With "
        "weights='ones' that is the host's own method, without a repair model.",
    )
    repaired_ratio: RepairedRatio = option(
        "old",
        "Denominator of a repair's ratio: the policy that sampled the rollouts, as in the paper, or the policy at the "
        "repair's first update (`one`). They differ only if a batch of rollouts serves several updates.",
    )

    @property
    def makes_pairs(self) -> bool:
        """Whether wrong answers get repairs at all."""
        return self.regroup or self.weights != "ones"

    @property
    def scores_drafts(self) -> bool:
        """Whether the repair model scores wrong answers, and makes no repairs."""
        return self.weights in DRAFT_WEIGHTS

    @property
    def needs_repairer(self) -> bool:
        """Whether there is a repair model, which repairs or scores wrong answers."""
        return self.scores_drafts or (self.makes_pairs and self.num_repairs > 0)

    @property
    def passes_per_answer(self) -> int:
        """`K` of Eq. 29: the repairs sampled of a wrong answer, or the one time that it is scored."""
        return 1 if self.scores_drafts else self.num_repairs

    def check(self) -> None:
        super().check()
        if self.scores_drafts:
            self._check_scores()
            return
        if self.num_repairs < (0 if self.sibling_repairs else 1):
            raise ConfigError(
                f"num_repairs={self.num_repairs}: sample at least one repair per wrong answer, or set "
                "num_repairs=0 with sibling_repairs=True."
            )
        if not 0.0 < self.max_edit_cost <= 1.0:
            raise ConfigError(f"max_edit_cost={self.max_edit_cost}: give a share of the tokens, above 0 and at most 1.")
        if not 0.0 <= self.min_probability < 1.0:
            raise ConfigError(f"min_probability={self.min_probability}: give a probability below 1; 0.05 is a start.")

    def _check_scores(self) -> None:
        """Refuse what acts on repairs, where there are none."""
        if self.regroup:
            raise ConfigError(
                f"regroup=True: weights={self.weights!r} makes no repairs to optimise over; set regroup=False, which "
                "weighs the wrong answers of the original group."
            )
        defaults = {field.name: field.default for field in fields(PairSettings)}
        for name in _OF_REPAIRS:
            value, default = getattr(self, name), defaults[name]
            if value != default and (name, value) != ("num_repairs", 0):
                otherwise = " or set it to 0" if name == "num_repairs" else ""
                raise ConfigError(
                    f"{name}={value!r}: weights={self.weights!r} makes no repairs that it could act on; leave it out"
                    f"{otherwise}, or use weights='mask'."
                )
