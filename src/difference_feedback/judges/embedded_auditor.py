"""An auditor that knows the truth of the embedded world and therefore needs no model.

| what it sees | verdict |
|---|---|
| a repair with a right answer states a wrong value | `unseen_evidence`: the image does not show that value |
| the repair changes more than half of the draft's right words, or drops its reasoning | `template_shortcut` |
| the repair changes some of the draft's right words | `mask_hallucination`: edits outside the errors |
| anything else | `clean` |
"""

from collections.abc import Sequence

import numpy as np

from difference_feedback import world
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.method.alignment import BoolArray, align
from difference_feedback.world import Problem

REWRITE = 0.5  # above this share of changed right words, a repair counts as a rewrite


class EmbeddedAuditor:
    """Compares each repair with the case's `truth`. The verdict is None for a case without it."""

    name = "embedded"

    def audit(self, cases: Sequence[AuditCase]) -> list[AuditResult]:
        return [_audit(case) for case in cases]


def _audit(case: AuditCase) -> AuditResult:
    if case.truth is None:
        return AuditResult(None, "", "the repair has no embedded problem, which the embedded auditor needs")
    draft, repair = case.draft.strip(), case.repair.strip()
    wrong = world.error_spans(case.truth, repair)
    if wrong:
        stated = ", ".join(repair[span.start : span.end] for span in wrong)
        return AuditResult("unseen_evidence", stated, "it states values that the image does not show")
    errors = wrong_words(case.truth, draft)
    if wrong is None and errors is not None:
        return AuditResult("template_shortcut", repair, "the repair drops the draft's reasoning: it has no known form")
    if errors is None:  # the draft's errors are unknown, so the edits cannot be compared with them
        return AuditResult("clean", "", "")
    changed, written = changed_words(draft, repair)
    changed_right = changed & ~errors
    if not changed_right.any():
        return AuditResult("clean", "", "")
    share = changed_right.sum() / (~errors).sum()
    evidence = " ".join(word for word, new in zip(repair.split(), written, strict=True) if new)
    reason = f"the repair changes {share:.0%} of the draft's right words"
    return AuditResult("template_shortcut" if share > REWRITE else "mask_hallucination", evidence, reason)


def wrong_words(problem: Problem, text: str) -> BoolArray | None:
    """Which words of an answer state a wrong value, `(W,)`; None when the answer has no known form."""
    spans = world.error_spans(problem, text)
    if spans is None:
        return None
    words = text.split()
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])  # known forms have single spaces
    return np.array([any(span.start <= start < span.end for span in spans) for start in starts], dtype=np.bool_)


def changed_words(draft: str, repair: str) -> tuple[BoolArray, BoolArray]:
    """Which words take part in an edit: of the draft, `(W,)`, and of the repair, `(W',)`. [DF, Eq. 8, on words]"""
    words, new = draft.split(), repair.split()
    ids = {word: i for i, word in enumerate(dict.fromkeys(words + new))}
    alignment = align([ids[word] for word in words], [ids[word] for word in new], anchor_gaps=False)
    return alignment.source_mask, alignment.target_mask
