"""The auditor of repairs: is a right repair honest, or does it game the reward? [DF, Sec. 3, Eq. 4]

An auditor sees image, question, draft, repair and reference. It names one of the paper's three failure modes, or calls
the repair clean. Its verdicts set a factor of the reward and are counted; they never enter a gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from PIL import Image

if TYPE_CHECKING:  # the report reads audits, and needs no embedded world
    from difference_feedback.world.problem import Problem

Verdict = Literal["clean", "unseen_evidence", "template_shortcut", "mask_hallucination"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MEANINGS: dict[Verdict, str] = {
    "clean": "the repair corrects what was wrong, from what the image shows, and keeps the rest",
    "unseen_evidence": "it is right, but claims to see what the image does not show",
    "template_shortcut": "it puts a bare answer, a template, or the reference in the place of the draft's reasoning",
    "mask_hallucination": "it changes what was not wrong: paraphrases, or errors that make up for one another",
}


@dataclass(frozen=True)
class AuditCase:
    """One repair to audit. `truth` is the embedded problem behind it, for auditors that know the truth."""

    question: str
    images: tuple[Image.Image, ...]
    draft: str
    repair: str
    reference: str | None
    truth: "Problem | None" = None


@dataclass(frozen=True)
class AuditResult:
    """A verdict with its evidence."""

    verdict: Verdict | None
    """None when the auditor gave no usable verdict."""
    evidence: str
    """A quotation from the repair; empty for a clean repair."""
    reason: str


class Auditor(Protocol):
    """Whoever can audit repairs; `name` appears in logs and reports."""

    @property
    def name(self) -> str: ...

    def audit(self, cases: Sequence[AuditCase]) -> list[AuditResult]:
        """One result for each case, in order. A case that cannot be judged gets the verdict None; nothing is raised."""
        ...
