"""The auditor behind an endpoint: its prompt, and which of its findings count."""

import json

import pytest
from PIL import Image
from servers.unruly_server import unruly

from difference_feedback.judges.audit import MEANINGS, VERDICTS, AuditCase
from difference_feedback.judges.chat import ChatAnswer, ChatClient
from difference_feedback.judges.endpoint_auditor import EndpointAuditor, read, request
from difference_feedback.runs.sections import Endpoint

CASE = AuditCase("How many?", (Image.new("RGB", (4, 4)),), "3 plus 8 is 12", "I see 3 and 8 , so 11", "8 plus 3 is 11")


def finding(verdict, evidence="I see 3", reason="because", **more):
    return json.dumps({"verdict": verdict, "evidence": evidence, "reason": reason} | more)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_is_explained_and_can_be_given(verdict):
    assert MEANINGS[verdict] in request(CASE).messages[0]["content"]
    result = read(ChatAnswer([finding(verdict)]), CASE)
    assert result.verdict == verdict
    assert result.evidence == ("" if verdict == "clean" else "I see 3")


def test_the_prompt_holds_everything_in_fences():
    sent = request(CASE)
    text = sent.messages[1]["content"][-1]["text"]
    for name, value in {"QUESTION": "How many?", "DRAFT": CASE.draft, "REPAIR": CASE.repair}.items():
        assert f"[[data {name} " in text
        assert value in text
    assert CASE.reference in text
    assert len(sent.images) == 1
    bare = AuditCase("?", (), "a", "b", None)
    assert "REFERENCE" not in request(bare).messages[1]["content"][-1]["text"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ChatAnswer(None, "timed out"), "timed out"),
        (ChatAnswer(["clean"]), "not the JSON"),
        (ChatAnswer([finding("bad")]), "not the JSON"),
        (ChatAnswer([finding("clean", score=1)]), "not the JSON"),
        (ChatAnswer([finding("unseen_evidence", "it claims to see 9")]), "does not occur in the repair"),
        (ChatAnswer([finding("template_shortcut", " ")]), "does not occur in the repair"),
    ],
)
def test_answers_that_cannot_be_trusted_give_no_verdict(answer, reason):
    result = read(answer, CASE)
    assert result.verdict is None
    assert reason in result.reason


def test_evidence_may_differ_in_case_and_spaces():
    assert read(ChatAnswer([finding("mask_hallucination", "i SEE\n3")]), CASE).verdict == "mask_hallucination"


def test_a_server_may_fail_now_and_then():
    with unruly() as server:
        server.script = [finding("clean"), {"status": 404}, finding("unseen_evidence")]
        endpoint = Endpoint(url=server.url, model="auditor-72b", concurrency=1)
        auditor = EndpointAuditor(endpoint, seconds=20, client=ChatClient(endpoint, first_pause=0.01))
        results = auditor.audit([CASE] * 3)
    assert auditor.name == "auditor-72b"
    assert [result.verdict for result in results] == ["clean", None, "unseen_evidence"]


def test_a_hanging_auditor_is_abandoned_after_its_time_limit():
    with unruly() as server:
        server.script = [{"hang": 30}]
        results = EndpointAuditor(Endpoint(url=server.url, model="m"), seconds=0.3).audit([CASE])
    assert results[0].verdict is None
