"""Where a repair model stands on the chart of dose and response, in one sentence: does training with it pay?"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from difference_feedback.report.dose import Dose, Gain, MeasuredShare

HEADS = {"pays": "Likely to pay", "costs": "Likely to cost", "open": "Undecided"}
CAVEAT = (
    "A guide, no guarantee: the chart was measured in one small world with answers of about 25 tokens, with an oracle "
    "that fails at random. A real repair model fails on the hard questions, where repairs teach most."
)


@dataclass(frozen=True)
class Placed:
    """A repair model's place on the chart."""

    name: str
    right: MeasuredShare
    """Of the wrong answers, those that get a right repair which training would use."""
    clean: MeasuredShare | None
    """Of these repairs, those that state no wrong value; None: nobody knows."""
    overhead: float | None = None
    """How much more a step costs than GRPO's, as a share; None: unknown, and taken as 0."""

    @property
    def price(self) -> float:
        return self.overhead or 0.0


@dataclass(frozen=True)
class DoseVerdict:
    """What the chart says of a model. `ends` are the gains with no clean repair and with all clean, where unknown."""

    kind: str
    gain: Gain | None
    ends: tuple[Gain, Gain] | None
    remedies: list[str]
    """What would move the model to the goal, each alone."""
    notes: list[str]
    goal: str = "be likely to pay"
    """What the remedies reach: `break even` where the chart is too uncertain for more."""

    @property
    def sentence(self) -> str:
        """The one sentence."""
        if self.gain is not None:
            expected = f"expected gain over GRPO at the same compute {points(self.gain)}"
        else:
            assert self.ends is not None
            none, every = self.ends
            expected = (
                f"expected gain over GRPO at the same compute {points(none)} without a clean repair, {points(every)} "
                "if all are clean (nobody has said which are)"
            )
        remedy = f"; it would {self.goal} with {', or with '.join(self.remedies)}" if self.remedies else ""
        return f"{HEADS[self.kind]}: {expected}{remedy}."


def judge(dose: Dose, model: Placed) -> DoseVerdict:
    """Place a model, and say what would have to improve."""
    notes = _notes(dose, model)
    if model.clean is None:
        ends = tuple(dose.gain(model.right, clean, model.price) for clean in (0.0, 1.0))
        kind = "pays" if ends[0].verdict == "pays" else "costs" if ends[1].verdict == "costs" else "open"
        goal, remedies = _goal(dose, replace(model, clean=MeasuredShare(0.0, 0.0, 0.0)), kind)
        if kind != "pays":  # the other remedies rest on a share that nobody knows
            remedies = [remedy.removesuffix(" instead of 0 %") for remedy in remedies[:1]]
        return DoseVerdict(kind, None, (ends[0], ends[1]), remedies, notes, goal)
    gain = dose.gain(model.right, model.clean, model.price)
    goal, remedies = _goal(dose, model, gain.verdict)
    return DoseVerdict(gain.verdict, gain, None, remedies, notes, goal)


def points(gain: Gain) -> str:
    """A gain in words."""
    low, high = (f"{bound:+.1f}".replace("-", "−") for bound in (gain.low, gain.high))
    return f"{gain.value:+.1f}".replace("-", "−") + f" points (95 % interval {low} to {high})"


def times(overhead: float) -> str:
    """What a step costs that takes `overhead` more than GRPO's."""
    return f"{1 + overhead:.3g} times GRPO's"


def _goal(dose: Dose, model: Placed, kind: str) -> tuple[str, list[str]]:
    """What the model can reach, and how: a gain whose interval excludes 0, or else an expected gain above 0."""
    if kind == "pays":
        return "be likely to pay", []
    if remedies := _remedies(dose, model, lambda gain: gain.verdict == "pays"):
        return "be likely to pay", remedies
    assert model.clean is not None
    if dose.gain(model.right, model.clean, model.price).value > 0:
        return "be likely to pay", []  # the chart is too uncertain to say with what
    return "break even", _remedies(dose, model, lambda gain: gain.value > 0)


def _remedies(dose: Dose, model: Placed, reached: Callable[[Gain], bool]) -> list[str]:
    """The least change of each share, and of the overhead, from which on the gain is what it should be."""
    assert model.clean is not None
    right, clean = model.right.value, model.clean.value
    if reached(dose.gain(right, clean, model.price)):
        return ["the same shares, measured on more wrong answers"]
    wanted = _first(clean, lambda share: reached(dose.gain(right, share, model.price)))
    remedies = [f"{wanted:.0%} of the right repairs clean instead of {clean:.0%}"] if wanted else []
    if wanted := _first(right, lambda share: reached(dose.gain(share, clean, model.price))):
        remedies.append(f"{wanted:.0%} of the wrong answers repaired right instead of {right:.0%}")
    if model.price and reached(dose.gain(right, clean)):
        steps = [(1 + model.price) ** (i / 100) - 1 for i in range(100, -1, -1)]
        cheaper = next(x for x in steps if reached(dose.gain(right, clean, x)))
        remedies.append(f"a step that costs {times(cheaper)} instead of {times(model.price)}")
    if not remedies and (
        both := _first(max(right, clean), lambda share: reached(dose.gain(share, share, model.price)))
    ):
        remedies.append(f"{both:.0%} repaired right and {both:.0%} of these clean")
    return [remedy.replace("%", " %") for remedy in remedies]


def _first(start: float, reached: Callable[[float], bool]) -> float | None:
    """The first share above `start`, in whole percents, that is enough."""
    return next((i / 100 for i in range(round(100 * start) + 1, 101) if reached(i / 100)), None)


def _notes(dose: Dose, model: Placed) -> list[str]:
    notes = []
    if model.overhead is None:
        notes.append(
            "What a step costs is not known, and counted as nothing: give run=FOLDER of a training run, or "
            "base_seconds and p_err."
        )
    (low, high), (dirty, clean) = dose.area
    value = model.clean.value if model.clean else dirty
    if not (low - 0.05 <= model.right.value <= high + 0.05 and dirty - 0.05 <= value <= clean + 0.05):
        notes.append(
            f"The model lies outside of what was measured ({low:.0%} to {high:.0%} right, {dirty:.0%} to {clean:.0%} "
            "clean), so the rule is extended beyond its points.".replace("%", " %")
        )
    return notes
