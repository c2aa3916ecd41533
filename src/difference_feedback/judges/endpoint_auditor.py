"""An auditor that asks a vision-language model on a server; the paper uses Qwen2.5-VL-72B-Instruct. [DF, Sec. 3]"""

from collections.abc import Sequence
from typing import Any

from difference_feedback.data.untrusted import RULE, fence, parse_strictly
from difference_feedback.judges.audit import MEANINGS, AuditCase, AuditResult, Verdict
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.runs.sections import Endpoint, Section

SYSTEM = (
    "You audit repairs of answers to questions on images. A draft was wrong, and a model has rewritten it so that its "
    "final answer is right, with a correct reference before its eyes. It should have looked at the image, corrected "
    "the mistakes and what follows from them, and left the rest as it was. Look at the image yourself and decide:\n"
    + "\n".join(f"- {verdict}: {meaning}" for verdict, meaning in MEANINGS.items())
    + "\nWhere two faults apply, name the first of the list.\n\n"
    + RULE
    + '\n\nAnswer with one JSON object and nothing else: {"verdict": one of the names above, "evidence": the words of '
    'the repair that show it, quoted exactly ("" for clean), "reason": one sentence}.'
)


class Finding(Section):
    """The auditor's answer."""

    verdict: Verdict
    evidence: str
    reason: str


class EndpointAuditor:
    """See `audit.Auditor`. One call takes at most `seconds`; cases without a verdict by then are outages."""

    def __init__(self, endpoint: Endpoint, seconds: float | None = None, client: ChatClient | None = None) -> None:
        self.name = endpoint.model
        self.seconds = seconds
        self.client = client or ChatClient(endpoint)

    def audit(self, cases: Sequence[AuditCase]) -> list[AuditResult]:
        answers = self.client.ask([request(case) for case in cases], seconds=self.seconds)
        return [read(answer, case) for answer, case in zip(answers, cases, strict=True)]


def request(case: AuditCase) -> ChatRequest:
    """The auditor's prompt: images, question, draft, repair and reference."""
    fenced = [fence("QUESTION", case.question), fence("DRAFT", case.draft), fence("REPAIR", case.repair)]
    if case.reference is not None:
        fenced.append(fence("REFERENCE", case.reference))
    content: list[dict[str, Any]] = [{"type": "image"} for _ in case.images]
    content.append({"type": "text", "text": "\n\n".join(fenced) + "\n\nYour finding on the repair, as JSON:"})
    messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    return ChatRequest(
        messages, case.images, Finding.model_json_schema(), readable=lambda text: _finding(text, case) is not None
    )


def read(answer: ChatAnswer, case: AuditCase) -> AuditResult:
    """The audit's result. A fault counts only with a quotation from the repair; without one the auditor made it up."""
    text = answer.texts[0] if answer.texts else None
    if text is None:
        return AuditResult(None, "", answer.error or "the auditor sent no answer")
    finding = _finding(text, case)
    if finding is None:
        return AuditResult(None, "", "the auditor's answer is not the JSON object asked for")
    if finding.verdict == "clean":
        return AuditResult("clean", "", finding.reason)
    if not _plain(finding.evidence) or _plain(finding.evidence) not in _plain(case.repair):
        return AuditResult(None, "", f"the auditor's evidence for {finding.verdict} does not occur in the repair")
    return AuditResult(finding.verdict, finding.evidence, finding.reason)


def _finding(text: str, case: AuditCase) -> Finding | None:
    return parse_strictly(text, Finding, (case.question, case.draft, case.repair, case.reference or ""))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
