"""Whatever a server answers, the run goes on: judge, auditor, repairers and the policy's server with every fault."""

import base64
import functools
import gzip
import http.client
import json
import time
from urllib.parse import quote

import pytest
import torch
from servers.unruly_server import completion, unruly
from trl import GRPOConfig

from difference_feedback import world
from difference_feedback.errors import ConfigError, DataError, DifferenceFeedbackError
from difference_feedback.judges.audit import AuditCase
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.judges.endpoint_auditor import EndpointAuditor
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.judges.wire import MOST_BYTES
from difference_feedback.method.repairs import Limits, RepairRequest, usable_repairs
from difference_feedback.models.end_tokens import special_ids
from difference_feedback.models.load import load_model
from difference_feedback.policy.evaluation import evaluate_recipe, show
from difference_feedback.policy.train import train
from difference_feedback.repair.audit_factor import AuditFactor
from difference_feedback.repair.endpoint import EndpointRepairer, VLLMServerRepairer
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe, TrainRecipe
from difference_feedback.runs.sections import Endpoint, Judge, PolicyEndpoint
from difference_feedback.trl import ExactResume
from difference_feedback.world.nano import load_base

pytestmark = pytest.mark.faults
VOTE = json.dumps({"extracted": "7", "verdict": "correct", "reason": "it says so"})
FINDING = json.dumps({"verdict": "clean", "evidence": "", "reason": "honest"})


def body(**choice):
    return json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"} | choice]})


def content(value):
    return {"raw": body(message={"role": "assistant", "content": value})}


def wire(data, head="HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", then="close", length=None):
    return {
        "wire": f"{head}Content-Length: {len(data) if length is None else length}\r\n\r\n".encode() + data,
        "then": then,
    }


def nested(depth):
    return '{"choices": ' + "[" * depth + "]" * depth + "}"


BOMB = gzip.compress(b" " * 50_000_000)
BAD_ANSWERS = {
    "nested": {"raw": nested(200_000)},
    "nested content": {"raw": '{"choices": [{"message": {"content": ' + '{"a":' * 900 + "1" + "}" * 900 + "}}]}"},
    "a huge number": {"raw": '{"choices": [{"message": {"content": ' + "9" * 5000 + "}}]}"},
    "content 7": content(7),
    "content true": content(True),
    "content null": content(None),
    "content object": content({"text": VOTE}),
    "content of pictures": content([{"type": "image_url", "image_url": {"url": "http://x"}}]),
    "content of numbers": content([1, 2]),
    "content of a text part that is none": content([{"type": "text", "text": 7}]),
    "content of 100 MB": {"raw": body(message={"content": "x" * 100})[:-30] + "y" * (MOST_BYTES + 1)},
    "content beyond max_tokens": content("9" * 100_000),
    "half a surrogate pair": {"raw": '{"choices": [{"message": {"content": "\\ud83d"}}]}'},
    "NUL and controls": content("\x00\x1b[2J\x07"),
    "no choices": {"raw": "{}"},
    "empty choices": {"raw": '{"choices": []}'},
    "choices null": {"raw": '{"choices": null}'},
    "choices an object": {"raw": '{"choices": {"0": 1}}'},
    "choices of null": {"raw": '{"choices": [null]}'},
    "choices of numbers": {"raw": '{"choices": [1]}'},
    "message null": {"raw": body(message=None)},
    "message a text": {"raw": body(message="hello")},
    "finish_reason a list": {"raw": body(finish_reason=[1], message={"content": ""})},
    "usage a text": {"raw": '{"usage": "many", "choices": [{"message": {"content": ""}}]}'},
    "usage of texts": {"raw": '{"usage": {"total_tokens": "7"}, "choices": [{"message": {"content": ""}}]}'},
    "usage infinite": {"raw": '{"usage": {"total_tokens": Infinity}, "choices": [{"message": {"content": ""}}]}'},
    "token ids of texts": {"raw": body(message={"content": ""}, token_ids=["a"])},
    "an array": {"raw": "[]"},
    "a number": {"raw": "7"},
    "null": {"raw": "null"},
    "NaN": {"raw": "NaN"},
    "nothing": {"raw": ""},
    "HTML": {"raw": "<html><body>502 Bad Gateway</body></html>"},
    "half an answer": {"raw": completion(VOTE)[:60]},
    "two answers": {"raw": completion(VOTE) * 2},
    "no UTF-8": wire(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "UTF-16 cut": wire(completion(VOTE).encode("utf-16")[:-3]),
    "an error with 200": {"raw": '{"error": {"message": "overloaded", "code": 7}}'},
    "an odd error with 200": {"raw": '{"error": ["overloaded"], "choices": []}'},
    "400 with HTML": {"status": 400, "raw": "<html>no</html>"},
    "400 with a number": {"status": 400, "raw": "7"},
    "401": {"status": 401, "raw": '{"error": null}'},
    "403 nested": {"status": 403, "raw": nested(100_000)},
    "404 with a list": {"status": 404, "raw": '{"error": {"message": [1, {"a": 2}]}}'},
    "418 of surrogates": {"status": 418, "raw": '{"error": "\\ud83d\\u0000\\u001b[2J"}'},
    "429 for a year": {"status": 429, "headers": {"Retry-After": "31536000"}},
    "429 for ever": {"status": 429, "headers": {"Retry-After": "inf"}},
    "429 for NaN": {"status": 429, "headers": {"Retry-After": "nan"}},
    "429 for -5": {"status": 429, "headers": {"Retry-After": "-5"}},
    "429 until a date": {"status": 429, "headers": {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}},
    "429 until nonsense": {"status": 429, "headers": {"Retry-After": "soon\x7f"}},
    "500": {"status": 500, "raw": "\x00"},
    "503": {"status": 503},
    "599": {"status": 599, "raw": ""},
    "204": {"wire": b"HTTP/1.1 204 No Content\r\n\r\n"},
    "101": {"wire": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx"},
    "302 to nowhere": {"status": 302, "headers": {"Location": "http://"}},
    "302 in circles": {"status": 302, "headers": {"Location": "/v1/chat/completions"}},
    "a status that is none": {"wire": b"HTTP/1.1 9999 What\r\n\r\n"},
    "no HTTP": {"wire": b"SSH-2.0-OpenSSH_9.0\r\n"},
    "TLS": {"wire": b"\x15\x03\x01\x00\x02\x02\x46"},
    "HTTP/0.9": {"wire": b"<html>hello</html>"},
    "HTTP/2": {"wire": b"HTTP/2 200\r\n\r\n"},
    "endless headers": {"wire": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 300_000 + b"\r\n\r\n"},
    "a header without a name": {"wire": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\n{}"},
    "two lengths": {"wire": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"},
    "a negative length": {"wire": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"},
    "a length that is too large": wire(b"{}", length=100),
    "a length that is too small": wire(completion(VOTE).encode(), length=20),
    "a bad chunk": {"wire": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"},
    "a chunk that stalls": {
        "wire": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "then": "hang",
    },
    "a reset at once": {"wire": b"", "then": "reset"},
    "a reset half way": wire(completion(VOTE).encode()[:50], length=1000, then="reset"),
    "a gzip bomb": wire(BOMB, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"),
    "no gzip": wire(b"{}", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"),
    "an unknown encoding": wire(b"{}", "HTTP/1.1 200 OK\r\nContent-Encoding: br, zstd, x\r\n"),
    "a body without end": {"wire": b"HTTP/1.1 200 OK\r\n\r\n{", "then": "hang"},
    "a drip": {"drip": True},
    "silence": {"hang": 20},
    "a drop": {"drop": True},
}


@pytest.fixture(scope="module")
def base():
    return load_base()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("difference_feedback.judges.chat.LONGEST_PAUSE", 0.02)


@pytest.fixture
def server():
    with unruly() as server:
        yield server


def endpoint(server, **settings):
    return Endpoint(**{"url": server.url, "model": "m", "timeout": 0.25, "retries": 1, "concurrency": 4} | settings)


def client(server, **settings):
    return ChatClient(endpoint(server, **settings), first_pause=0.01)


def case(**changes):
    return AuditCase(**{"question": "?", "images": (), "draft": "a 8", "repair": "a 7", "reference": None} | changes)


@functools.cache
def request_of(base):
    [problem] = world.sample_problems("rl", 1, 0)
    tokenizer = base[1].tokenizer
    ids = [*tokenizer.encode(world.correct_answers(problem)[0]), tokenizer.eos_token_id]
    return RepairRequest(problem.prompt, list(problem.images), ids, world.correct_answers(problem)[-1])


@pytest.mark.parametrize("fault", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_each_fault_is_counted_and_forgotten(server, base, tmp_path, fault):
    """Judge, auditor and both repairers get it, then a good answer to the same question: nothing of it was kept."""
    cache = {"cache": str(tmp_path / "cache")}
    request, tokenizer = request_of(base), base[1].tokenizer
    judge = LLMJudge(Judge(endpoint=endpoint(server, **cache)), client(server, retries=0, **cache))
    auditor = EndpointAuditor(endpoint(server), client=client(server, retries=0, **cache))
    server.script = [fault]
    start = time.monotonic()
    [judgement] = judge.judge(["?"], [[]], ["7"], ["7"])
    [result] = auditor.audit([case()])
    assert judgement.correct is None
    assert judge.counts == {"unjudged": 1}
    assert result.verdict is None
    for text in (judgement.reason, result.reason):
        assert text
        assert text.isprintable()
    limits = Limits(frozenset(), len(tokenizer), 99, frozenset({tokenizer.eos_token_id}), special_ids(tokenizer))
    for kind in (EndpointRepairer, VLLMServerRepairer):
        repairer = kind(endpoint(server), tokenizer, style="nano", client=client(server, retries=0))
        repairer._sends_ids = True
        [candidates] = repairer.repair([request])
        _, refused = usable_repairs(candidates, 1, limits, request.draft_ids)
        assert refused.total() == 1 or fault == BAD_ANSWERS["NUL and controls"]
    assert time.monotonic() - start < 8
    server.script = [VOTE]
    assert judge.judge(["?"], [[]], ["7"], ["7"])[0].correct is True
    server.script = [FINDING]
    assert auditor.audit([case()])[0].verdict == "clean"


def test_http_1_0_is_understood(server):
    server.script = [{"wire": b"HTTP/1.0 200 OK\r\n\r\n" + completion("fine").encode()}]
    assert client(server).ask([ChatRequest([{"role": "user", "content": "?"}])])[0].texts == ["fine"]


def test_parts_that_are_texts_are_a_text(server):
    server.script = [content([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}])]
    assert client(server).ask([ChatRequest([{"role": "user", "content": "?"}])])[0].texts == ["fine"]


def test_a_choice_that_is_no_text_fails_alone(server, base):
    good = {"message": {"content": "answer 3"}, "finish_reason": "stop"}
    server.script = [{"raw": json.dumps({"choices": [good, {"message": {"content": ["\ud83d"]}}, good]})}]
    request, tokenizer = request_of(base), base[1].tokenizer
    repairer = EndpointRepairer(endpoint(server), tokenizer, style="nano", client=client(server))
    [candidates] = repairer.repair([request], 2)
    usable, refused = usable_repairs(candidates, 2, Limits(frozenset(), len(tokenizer), 99), request.draft_ids)
    assert [repair.text for repair in usable] == ["answer 3"]
    assert +refused == {"unreadable": 1}


BAD_IDS = [
    [10**6],
    [-1],
    [True, False],
    [1.0],
    ["7"],
    [10**30],
    [[1]],
    {"0": 1},
    "123",
    [],
    None,
    "<|im_start|> in the middle",
    "<|im_end|> first",
]


@pytest.mark.parametrize("ids", BAD_IDS, ids=map(str, range(len(BAD_IDS))))
def test_token_ids_of_a_server_are_checked(server, base, ids):
    request, tokenizer = request_of(base), base[1].tokenizer
    answer, special = tokenizer.encode("answer 3"), tokenizer.convert_tokens_to_ids
    if isinstance(ids, str) and ids.startswith("<|"):
        ids = [special("<|im_end|>"), special("<|im_start|>"), *answer] if "first" in ids else [*answer, 1, *answer]
    good = {"message": {"content": "answer 3"}, "token_ids": answer, "finish_reason": "stop"}
    server.script = [{"raw": json.dumps({"choices": [good | {"token_ids": ids}, good]})}]
    repairer = VLLMServerRepairer(endpoint(server), tokenizer, style="nano", client=client(server))
    ends = frozenset({tokenizer.eos_token_id})
    limits = Limits(frozenset(), len(tokenizer), 99, ends, special_ids(tokenizer))
    [candidates] = repairer.repair([request], 2)
    usable, refused = usable_repairs(candidates, 2, limits, request.draft_ids)
    assert [repair.token_ids for repair in usable] == [[*answer, tokenizer.eos_token_id]]
    assert refused.total() == 1
    assert not {"missing", "empty"} & set(+refused)


def test_redirects_do_not_take_the_key_elsewhere(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-12345")
    with unruly() as stranger:
        stranger.script = ["fine"]
        for status in (301, 302, 303, 307, 308):
            server.script = [{"status": status, "headers": {"Location": f"{stranger.url}/chat/completions"}}]
            chat = client(server, api_key_env="MY_KEY", retries=0)
            [answer] = chat.ask([ChatRequest([{"role": "user", "content": "?"}])])
            assert answer.texts is None
            assert "redirects" in answer.error
        assert not stranger.bodies


def test_nothing_of_the_environment_goes_to_a_server(server, monkeypatch, tmp_path):
    values = {
        **{"OPENAI_API_KEY": "sk-other", "OPENAI_ORG_ID": "org-mine", "OPENAI_PROJECT_ID": "proj-mine"},
        **{"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_CUSTOM_HEADERS": "X-Mine: secret-header"},
        **{"HTTP_PROXY": "http://user:password-of-proxy@127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"},
        **{"NETRC": str(tmp_path / "netrc"), "HF_TOKEN": "hf_secret", "VLLM_API_KEY": "vllm-secret"},
    }
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password netrc-secret\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc-secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    server.script = ["fine"]
    assert client(server).ask([ChatRequest([{"role": "user", "content": "?"}])])[0].texts == ["fine"]
    [headers] = server.headers
    expected = {"host", "authorization", "content-type", "content-length", "accept", "accept-encoding", "connection"}
    assert set(headers) <= expected | {"user-agent"}
    assert headers["authorization"] == "Bearer none"
    sent = json.dumps([headers, server.bodies])
    assert not [word for word in ("mine", "secret", "other", "password") if word in sent]


KEY = "sk-Secret/Key+12345="


@pytest.mark.parametrize(
    "form",
    [
        lambda key: key,
        lambda key: key.upper(),
        lambda key: quote(key, safe=""),
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
        lambda key: base64.urlsafe_b64encode(f"a {key} b".encode()).decode(),
        lambda key: key.encode().hex(),
        lambda key: f"Bearer {key}",
        lambda key: "x" * 190 + key,
        lambda key: "".join(f"\\u{ord(sign):04x}" for sign in key),
        lambda key: f"\\u0073{key[1:]}",
        lambda key: json.dumps(json.dumps(key)).replace("/", "\\/").replace("+", "\\u002B"),
        lambda key: repr("".join(f"\\x{ord(sign):02x}" for sign in key)),
        lambda key: "".join(f"%{ord(sign):02X}" for sign in key),
        lambda key: "".join(f"&#{ord(sign)};" for sign in key),
        lambda key: "".join(f"&#x{ord(sign):X};" for sign in key),
        lambda key: f"{key[:9]}\n{key[9:]}",
        lambda key: f"{key[:9]}\u200b{key[9:]}",
        lambda key: " " * 1_985 + key,
    ],
)
def test_an_echoed_key_is_struck_out_of_all_that_is_written(server, monkeypatch, tmp_path, capsys, form):
    monkeypatch.setenv("MY_KEY", KEY)
    settings = {"api_key_env": "MY_KEY", "cache": str(tmp_path / "cache"), "retries": 0}
    echoed = form(KEY)
    auditor = EndpointAuditor(endpoint(server), client=client(server, **settings))
    factor = AuditFactor(auditor, log=AuditLog(tmp_path))
    finding = {"verdict": "clean", "evidence": "", "reason": f"you sent {echoed}"}
    columns = {"question": ["?"], "draft": ["a"], "reference": ["r"], "images": [()]}
    for i, step in enumerate(
        [
            json.dumps(finding),
            {"status": 401, "raw": json.dumps({"error": {"message": f"bad key {echoed}"}})},
            {"status": 500, "raw": f"<html>{echoed}</html>"},
            {"status": 302, "headers": {"Location": f"http://x/{echoed}".replace("\n", " ")}},
            {"raw": json.dumps({"error": echoed})},
        ]
    ):
        server.script = [step]
        factor._pause = 0
        factor(completions=[f"repair {i}"], correct=[1.0], draft_id=["d"], **columns)
    judge = LLMJudge(Judge(endpoint=endpoint(server)), client(server, **settings))
    vote = json.dumps({"extracted": "X", "verdict": "correct", "reason": "X"})
    escaped = json.dumps(echoed) if not echoed.startswith("\\u0073") else f'"{echoed}"'
    server.script = [vote.replace('"X"', escaped)]
    judgement = judge.judge(["?"], [[]], ["7"], ["7"])[0]
    assert judgement.correct is True
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 2
    everything = "\n".join([*written, judgement.reason, *capsys.readouterr()]).lower()
    secret = echoed.removeprefix("Bearer ").removeprefix("x" * 190).lower()
    assert secret not in everything
    assert KEY.lower() not in everything
    assert "12345" not in everything
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("url", ["http://user:pass-word@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key=abc-secret"])
def test_a_url_with_a_secret_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        ChatClient(Endpoint(url=url, model="m"))
    assert "pass-word" not in str(caught.value)
    assert "abc-secret" not in str(caught.value)


def test_basic_authorization_is_sent_as_it_is(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "Basic dXNlcjpwYXNz")
    server.script = ["fine"]
    client(server, api_key_env="MY_KEY").ask([ChatRequest([{"role": "user", "content": "?"}])])
    assert server.headers[0]["authorization"] == "Basic dXNlcjpwYXNz"


# ---- whole runs ----

FEW = {"max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 24}


def rows_of(tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    rows = [{"question": f"What is {i} plus 1?", "image": "a.png", "answer": str(i + 1)} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(tmp_path / "rows.jsonl")}


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("df-grpo", "<html>"),
        ("df-grpo", {"wire": b"", "then": "reset"}),
        ("grpo", {"status": 503}),
    ],
)
def test_training_goes_on_without_a_single_judged_answer(server, tmp_path, method, fault):
    server.script = [fault]
    judge = {"endpoint": {"url": server.url, "model": "m", "timeout": 1.0, "retries": 0, "max_requests": 40}}
    values = {"data": rows_of(tmp_path), "reward": "llm-judge", "judge": judge, "trl": FEW | {"logging_steps": 1}}
    values |= {"method": method} | ({"repair_model": "reference"} if method == "df-grpo" else {})
    recipe = TrainRecipe.model_validate(values)
    before = {name: p.clone() for name, p in load_base()[0].named_parameters()}
    run = Run(tmp_path / "run", recipe)
    train(recipe, run)
    rows = [row for row in run.metrics() if "unjudged" in row]
    assert [row["unjudged"] for row in rows] == [16.0, 16.0]
    assert [row.get("df/unjudged", 16.0) for row in rows] == [16.0, 16.0]
    assert [row["reward"] for row in rows] == [None, None]
    after = dict(load_model(str(run.folder / "model"))[0].named_parameters())
    assert all(torch.equal(after[name], p) for name, p in before.items())  # nothing was judged, so nothing has moved


def test_training_stops_where_the_recipe_says_so(server, tmp_path):
    server.script = ["<html>"]
    judge = {"endpoint": {"url": server.url, "model": "m", "retries": 0}, "when_down": "stop"}
    values = {"data": rows_of(tmp_path), "reward": "llm-judge", "judge": judge, "trl": FEW, "method": "grpo"}
    recipe = TrainRecipe.model_validate(values)
    with pytest.raises(DifferenceFeedbackError, match=r"judge\.when_down=open"):
        train(recipe, Run(tmp_path / "run", recipe))


def test_an_evaluation_without_a_judged_answer_says_so(server, tmp_path):
    from rich.console import Console

    server.script = ["prose"]
    judge = {"endpoint": {"url": server.url, "model": "m", "retries": 0}}
    values = {"data": rows_of(tmp_path), "reward": "llm-judge", "judge": judge, "evaluation": {"max_new_tokens": 8}}
    recipe = EvaluateRecipe.model_validate(values)
    run = Run(tmp_path / "run", recipe)
    summary = evaluate_recipe(recipe, run)
    assert (summary["accuracy"], summary["problems"], summary["unjudged"]) == (None, 0, 8)
    assert json.loads((run.folder / "summary.json").read_text())["accuracy"] is None
    console = Console(record=True, width=100)
    show(summary | {"model": "m"}, console)
    text = console.export_text()
    assert "no answer judged" in text
    assert "nan" not in text


def test_a_format_alone_makes_no_answer_right(tmp_path):
    """Two reward functions: the judge gives no verdict, the format is right. Nothing is judged, and nothing moves."""
    batches = []

    class Watched(ExactResume):
        def _compute_loss(self, model, batch):
            batches.append(batch)
            return super()._compute_loss(model, batch)

    def judged(completions, **_):
        return [None] * len(completions)

    def formatted(completions, **_):
        return [float(i % 2) for i in range(len(completions))]

    args = GRPOConfig(
        **{"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1},
        **{"max_completion_length": 4, "beta": 0.0, "bf16": False, "use_cpu": True, "logging_steps": 1},
        **{"gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"},
    )
    model, processor = load_base()
    dataset = world.to_dataset(world.sample_problems("rl", 2, 0))
    trainer = Watched(model, [judged, formatted], args, train_dataset=dataset, processing_class=processor)
    seen = []
    trainer.watch = lambda inputs, completions, rewards: seen.append(rewards)
    trainer.train()
    assert set(batches[0]["advantages"].tolist()) == {0.0}  # those that the update has: others have no gradient either
    assert torch.isnan(seen[0]).all()
    assert trainer.state.log_history[0]["reward"] is None


def test_a_served_policy_that_fails_is_an_error_with_its_remedy(server):
    server.script = [{"status": 500}]
    url = PolicyEndpoint(url=server.url, model="nano", timeout=0.5, retries=0)
    served = ServedModel(url, "nano")
    [problem] = world.sample_problems("rl", 1, 0)
    with pytest.raises(DataError, match="give the command again"):
        served.answer([problem.prompt], [problem.images], max_new_tokens=8)
    for value in (["a"], [-1], [10**30], [1.5], None):
        server.script = [{"raw": body(message={"content": "x"}, token_ids=value)}]
        with pytest.raises(DataError, match="no token ids"):
            served.answer([problem.prompt], [problem.images], max_new_tokens=8)


def test_a_list_of_models_that_is_none_is_an_error(server):
    from difference_feedback.runs.serving import served_models

    with pytest.raises((ConfigError, http.client.HTTPException)):
        served_models(endpoint(server))
