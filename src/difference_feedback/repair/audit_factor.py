"""`g_audit`, a factor of the repair reward: 0 if the auditor finds that a right repair games the reward. [DF, Eq. 4]

Only right repairs are audited, a sampled share of them. A wrong repair has not gained a reward, and a factor of 0 would
raise its reward `-λ C_edit` to 0. Repairs without an audit keep the factor 1. When the auditor cannot be reached,
training either goes on with the factor 1 and counts the outage, or stops. After a batch in which every audit failed,
the auditor is not asked for 1, 2, 4, ... batches, so that a hanging auditor costs little time.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from accelerate import PartialState
from accelerate.utils import gather_object

from difference_feedback.data.conversations import texts_of
from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.judges.audit import VERDICTS, AuditCase, Auditor, AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.world import Problem

LONGEST_PAUSE = 32  # batches
DOWN = AuditResult(None, "", "the auditor was not asked, because it failed in an earlier batch")


class AuditorDownError(DifferenceFeedbackError):
    """The auditor cannot be reached, and the recipe asks to stop in that case."""


class AuditFactor:
    """A `reward.Factor`. The data set has the columns `draft_id`, `question`, `draft`, `reference` and `images`.

    Args:
        rate: share of the right repairs that is audited. The choice depends on their content alone, so it is the same
            in every run.
        when_down: what to do when no case of a batch could be judged: "open" keeps the factor at 1, "stop" raises
            `AuditorDownError`.
        log: the log to which every audit is written; None: no log.
    """

    def __init__(
        self,
        auditor: Auditor,
        rate: float = 1.0,
        when_down: Literal["open", "stop"] = "open",
        log: AuditLog | None = None,
    ) -> None:
        self.auditor = auditor
        self.rate = rate
        self.when_down = when_down
        self.log = log
        self._pause = 0  # number of next batches without audits
        self._next_pause = 1

    def __call__(
        self, *, completions: Sequence[Any], correct: Sequence[float], draft_id: Sequence[str], **columns: Any
    ) -> list[float]:
        texts = texts_of(completions)
        cases: dict[tuple[str, str], AuditCase] = {}
        for i, text in enumerate(texts):
            key = draft_id[i], text
            if correct[i] >= 1.0 and key not in cases and is_audited(key, self.rate):
                cases[key] = _case(i, text, columns)
        results = dict(zip(cases, self._ask(list(cases.values())), strict=True))
        step = columns["trainer_state"].global_step if columns.get("trainer_state") else 0
        self._write(step, list(cases.values()), list(results.values()))
        _report(columns.get("log_metric"), list(results.values()))
        faulty = {key for key, result in results.items() if result.verdict not in ("clean", None)}
        keys = zip(draft_id, texts, strict=True)
        return [0.0 if key in faulty and right >= 1.0 else 1.0 for key, right in zip(keys, correct, strict=True)]

    def _ask(self, cases: list[AuditCase]) -> list[AuditResult]:
        if not cases:
            return []
        if self._pause:
            self._pause -= 1
            return [DOWN] * len(cases)
        results = self.auditor.audit(cases)
        if any(result.verdict for result in results):
            self._next_pause = 1
            return results
        if self.when_down == "stop":
            raise AuditorDownError(
                f"audit: the auditor {self.auditor.name} judged none of {len(cases)} repairs ({results[0].reason}). "
                "Start it again and repeat the same command, or set audit.when_down=open to continue without it."
            )
        self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, LONGEST_PAUSE)
        return results

    def _write(self, step: int, cases: list[AuditCase], results: list[AuditResult]) -> None:
        """Write the audits of all processes, from the first process."""
        if self.log is None:
            return
        gathered = gather_object(list(zip(cases, results, strict=True)))
        if PartialState().is_main_process:
            self.log.write(step, self.auditor.name, [c for c, _ in gathered], [r for _, r in gathered])


def _case(i: int, text: str, columns: Mapping[str, Any]) -> AuditCase:
    images = tuple(columns["images"][i] or ())
    question = columns["question"][i]
    truth = None
    if columns.get("facts") is not None:
        facts = json.loads(columns["facts"][i])
        truth = Problem(columns["task"][i], columns["split"][i], question, images, columns["answer"][i], facts)
    return AuditCase(question, images, columns["draft"][i], text, columns["reference"][i], truth)


def is_audited(key: tuple[str, str], rate: float) -> bool:
    """Whether a repair, by its draft's id and its text, is in the share `rate` that is audited."""
    digest = hashlib.sha1("\0".join(key).encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8], "big") < rate * 2**64


def _report(log_metric: Any, results: Sequence[AuditResult]) -> None:
    """Log how many repairs were judged, how many were not, and the share of each verdict among the judged."""
    if log_metric is None:
        return
    counts = Counter(result.verdict for result in results if result.verdict)
    log_metric("repair/audited", float(counts.total()))
    log_metric("repair/audit_outages", float(len(results) - counts.total()))
    for verdict in VERDICTS:
        log_metric(f"repair/audit_{verdict}", counts[verdict] / counts.total() if counts else 0.0)
