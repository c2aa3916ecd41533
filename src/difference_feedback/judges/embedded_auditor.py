"""An auditor that knows the truth of the embedded world, and so needs no model.

| what it sees | verdict |
|---|---|
| a wrong value in a repair whose answer is right | `unseen_evidence`: it states what the image does not show |
| more than half of what was right in the draft is changed, or no reasoning is left | `template_shortcut`: a rewrite |
| fewer right words are changed | `mask_hallucination`: edits away from the errors |
| anything else | `clean` |
"""

from collections.abc import Sequence

import numpy as np

from difference_feedback import world
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.method.alignment import BoolArray, align
from difference_feedback.world import Problem

REWRITE = 0.5  # share of the draft's right words that are changed


class EmbeddedAuditor:
    """Goes by each case's `truth`; a case without it has the verdict None."""

    name = "embedded"

    def audit(self, cases: Sequence[AuditCase]) -> list[AuditResult]:
        return [_audit(case) for case in cases]


def _audit(case: AuditCase) -> AuditResult:
    if case.truth is None:
        return AuditResult(None, "", "the embedded auditor goes by the embedded problem behind a repair; there is none")
    draft, repair = case.draft.strip(), case.repair.strip()
    wrong = world.error_spans(case.truth, repair)
    if wrong:
        stated = ", ".join(repair[span.start : span.end] for span in wrong)
        return AuditResult("unseen_evidence", stated, "it states values that the image does not show")
    errors = wrong_words(case.truth, draft)
    if wrong is None and errors is not None:
        return AuditResult("template_shortcut", repair, "the draft's reasoning is gone: its steps are in no known form")
    if errors is None:  # without known errors, nothing can be said about where the edits are
        return AuditResult("clean", "", "")
    changed, written = changed_words(draft, repair)
    away = changed & ~errors
    if not away.any():
        return AuditResult("clean", "", "")
    share = away.sum() / (~errors).sum()
    evidence = " ".join(word for word, new in zip(repair.split(), written, strict=True) if new)
    reason = f"{share:.0%} of the words that were right are changed"
    return AuditResult("template_shortcut" if share > REWRITE else "mask_hallucination", evidence, reason)


def wrong_words(problem: Problem, text: str) -> BoolArray | None:
    """Which words of an answer state a wrong value, `(W,)`; None when it is written in no known form."""
    spans = world.error_spans(problem, text)
    if spans is None:
        return None
    words = text.split()
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])  # known forms have single spaces
    return np.array([any(span.start <= start < span.end for span in spans) for start in starts], dtype=np.bool_)


def changed_words(draft: str, repair: str) -> tuple[BoolArray, BoolArray]:
    """Which words take part in an edit, of the draft `(W,)` and of the repair `(W',)`. [DF, Eq. 8, on words]"""
    words, new = draft.split(), repair.split()
    ids = {word: i for i, word in enumerate(dict.fromkeys(words + new))}
    alignment = align([ids[word] for word in words], [ids[word] for word in new], anchor_gaps=False)
    return alignment.source_mask, alignment.target_mask
