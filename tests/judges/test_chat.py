"""The chat client with a server that misbehaves, and its cache with a disk that fails."""

import asyncio
import json
import multiprocessing
import os
import time

import pytest
from PIL import Image
from pydantic import ValidationError
from servers.unruly_server import completion, unruly

from difference_feedback.errors import ConfigError
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.judges.keys import Secrets
from difference_feedback.runs.sections import Endpoint


@pytest.fixture
def server():
    with unruly() as server:
        yield server


def client(server, **settings):
    values = {"url": server.url, "model": "m", "timeout": 2.0, "retries": 2} | settings
    return ChatClient(Endpoint(**values), first_pause=0.01)


def question(text="hello?", **fields):
    return ChatRequest([{"role": "user", "content": text}], **fields)


def test_answers_come_in_order_and_images_as_data_urls_within_the_limit(server):
    server.script = ["fine"]
    chat = client(server, max_pixels=100)
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "image"}]
    images = [Image.new("RGB", (40, 10), "red"), Image.new("L", (4, 4))]
    answers = chat.ask([ChatRequest([{"role": "user", "content": parts}], images), question("b")])
    assert [answer.texts for answer in answers] == [["fine"], ["fine"]]
    sent = next(body for body in server.bodies if isinstance(body["messages"][0]["content"], list))
    urls = [part["image_url"]["url"] for part in sent["messages"][0]["content"][1:]]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    assert len(urls) == 2
    assert sent["temperature"] == 0.0
    assert chat.usage.sent == 2
    assert chat.usage.tokens == 14


def test_a_surplus_image_fails_only_its_question(server):
    server.script = ["fine"]
    bad, good = client(server).ask([question(images=[Image.new("RGB", (2, 2))]), question()])
    assert bad.texts is None
    assert "0 image parts, but there are 1 images" in bad.error
    assert good.texts == ["fine"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429, "headers": {"Retry-After": "0.01"}},
        {"drop": True},
        {"hang": 20},
        {"drip": True},
        {"raw": ""},
        {"raw": "<html>gateway</html>"},
        {"raw": "{}"},
        {"raw": '{"choices": []}'},
    ],
    ids=str,
)
def test_transient_failures_are_retried(server, fault):
    server.script = [fault, "fine"]
    chat = client(server, timeout=0.5)
    [answer] = chat.ask([question()])
    assert answer.texts == ["fine"]
    assert (chat.usage.sent, chat.usage.retries, chat.usage.failed) == (2, 1, 0)


def test_a_server_that_is_down_for_good_gives_a_reason_in_bounded_time(server):
    server.script = [{"drip": True}]
    chat = client(server, timeout=0.3, retries=1)
    start = time.monotonic()
    [answer] = chat.ask([question()])
    assert time.monotonic() - start < 3
    assert answer.texts is None
    assert "no answer within" in answer.error
    assert chat.usage.failed == 1


def test_a_missing_server_gives_a_reason(server):
    chat = ChatClient(Endpoint(url="http://127.0.0.1:9/v1", model="m", retries=1), first_pause=0.01)
    [answer] = chat.ask([question()])
    assert answer.texts is None
    assert answer.error


def test_permanent_failures_are_not_retried(server):
    server.script = [{"status": 404, "raw": '{"error": {"message": "no model m"}}'}]
    chat = client(server)
    [answer] = chat.ask([question()])
    assert "no model m" in answer.error
    assert chat.usage.sent == 1


def test_a_long_pause_that_the_server_asks_for_is_shortened(server, monkeypatch):
    monkeypatch.setattr("difference_feedback.judges.chat.LONGEST_PAUSE", 0.05)
    server.script = [{"status": 429, "headers": {"Retry-After": "3600"}}, "fine"]
    start = time.monotonic()
    assert client(server).ask([question()])[0].texts == ["fine"]
    assert time.monotonic() - start < 2


def test_the_time_limit_holds_for_all_requests_together(server):
    server.script = [{"hang": 20}]
    start = time.monotonic()
    answers = client(server, timeout=30, concurrency=1).ask([question(str(i)) for i in range(3)], seconds=0.5)
    assert time.monotonic() - start < 3
    assert all(answer.texts is None for answer in answers)
    assert "time limit" in answers[-1].error


def test_the_budget_counts_retries(server):
    server.script = [{"status": 500}]
    chat = client(server, max_requests=4, concurrency=1)
    answers = chat.ask([question(str(i)) for i in range(5)])
    assert chat.usage.sent == len(server.bodies) == 4
    assert "endpoint.max_requests: all 4 requests" in answers[-1].error


@pytest.mark.parametrize(("rank", "ranks", "share"), [(0, 1, 5), (0, 2, 3), (1, 2, 2), (7, 8, 0)])
def test_clients_and_ranks_share_one_budget(server, monkeypatch, rank, ranks, share):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    server.script = ["fine"]
    clients = [client(server, max_requests=5) for _ in range(2)]
    answers = [answer for chat in clients for answer in chat.ask([question(str(i)) for i in range(4)])]
    assert sum(answer.texts == ["fine"] for answer in answers) == len(server.bodies) == share
    assert client(server).ask([question()])[0].texts == ["fine"], "requests without a limit are not counted"
    assert client(server, max_requests=5, model="other").ask([question()])[0].texts == (["fine"] if share else None)


def test_concurrency_is_bounded(server):
    server.script = [{"hang": 0.1}]
    start = time.monotonic()
    client(server, concurrency=2, retries=0, timeout=0.2).ask([question(str(i)) for i in range(6)])
    assert time.monotonic() - start > 0.29  # three rounds of two


def refusal(status, message):
    return {"status": status, "raw": json.dumps({"error": {"message": message}})}


def forbidden(field):
    """As a server that checks the form of a request says it."""
    detail = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}
    return {"status": 422, "raw": json.dumps({"detail": [detail]})}


UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
OWN_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
)
OPTIONAL_FIELDS = [
    (refusal(400, "response_format json_schema is not supported"), "response_format", "no JSON schema"),
    (refusal(400, "This response_format type is unavailable now"), "response_format", "no JSON schema"),
    (forbidden("response_format"), "response_format", "no JSON schema"),
    (forbidden("seed"), "seed", "no seed"),
    (refusal(400, UNSUPPORTED), "max_tokens", "max_completion_tokens instead"),
    (refusal(400, OWN_TEMPERATURE), "temperature", "chooses its own"),
]


@pytest.mark.parametrize(("refused", "field", "line"), OPTIONAL_FIELDS)
def test_what_a_server_does_not_take_is_left_out_from_then_on(server, capsys, refused, field, line):
    server.script = [refused, "fine"]
    chat = client(server, retries=0)
    for text in ("first", "again"):
        assert chat.ask([question(text, schema={"type": "object"}, seed=1)])[0].texts == ["fine"]
    first, second, third = map(set, server.bodies)
    assert first - second == first - third == {field}
    assert second - first == ({"max_completion_tokens"} if field == "max_tokens" else set())
    assert capsys.readouterr().err.count(line) == 1


def test_fields_are_left_out_one_after_the_other(server):
    server.script = [refusal(400, UNSUPPORTED), refusal(400, OWN_TEMPERATURE), "fine"]
    assert client(server, retries=0, max_tokens=99).ask([question()])[0].texts == ["fine"]
    assert server.bodies[-1].keys() == {"model", "messages", "n", "max_completion_tokens"}
    assert server.bodies[-1]["max_completion_tokens"] == 99


@pytest.mark.parametrize(
    ("refused", "fields"),
    [
        (refusal(400, "'max_tokens' is too large: 512. The maximum context length is 400 tokens."), {}),
        (refusal(400, "temperature must be in the range from 0 to 2"), {}),
        (refusal(404, UNSUPPORTED), {}),
        (refusal(400, OWN_TEMPERATURE), {"token_ids": True}),
        (forbidden("seed"), {"token_ids": True}),
    ],
)
def test_a_refused_value_and_what_shapes_samples_change_no_later_request(server, capsys, refused, fields):
    server.script = [refused, "fine"]
    chat = client(server)
    [failed], [answered] = (chat.ask([question(text, seed=1, **fields)]) for text in ("first", "again"))
    assert failed.texts is None
    assert answered.texts == ["fine"]
    assert server.bodies[0].keys() == server.bodies[1].keys()
    assert capsys.readouterr().err.count("stays without an answer: HTTP 4") == 1


def test_the_first_failure_for_good_is_printed_once_for_a_client(server, capsys):
    server.script = [{"status": 401, "raw": '{"error": {"message": "bad key"}}'}]
    client(server).ask([question(str(i)) for i in range(3)])
    assert capsys.readouterr().err.splitlines() == [
        f"{server.url}: a question stays without an answer: HTTP 401: bad key"
    ]


def test_it_can_be_called_where_a_loop_is_running(server):
    server.script = ["fine"]

    async def inside():
        return client(server).ask([question()])

    assert asyncio.run(inside())[0].texts == ["fine"]


def test_keys_come_from_the_environment_and_go_nowhere_else(server, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-someone-else")
    monkeypatch.setenv("MY_KEY", "sk-mine")
    server.script = ["fine", {"status": 401, "raw": '{"error": {"message": "bad key"}}'}]
    client(server).ask([question()])
    answer = client(server, api_key_env="MY_KEY").ask([question("b")])[0]
    assert server.headers[0]["authorization"] == "Bearer none"
    assert server.headers[1]["authorization"] == "Bearer sk-mine"
    assert "sk-" not in answer.error + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("Qw3rTy7UiOp9AsDfGhJk2LzXcVbNm5QwErTyUiOpAsDfGh", "Incorrect API key: Qw3rTy7UiOp9AsDfGhJk2LzX... is wrong"),
        ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.mine", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.another"),
        ("a" * 40 + "b", "a " * 400),
    ],
)
def test_what_almost_is_a_key_takes_no_time(monkeypatch, key, text):
    monkeypatch.setenv("MY_KEY", key)
    secrets = Secrets(Endpoint(url="http://127.0.0.1:1/v1", model="m", api_key_env="MY_KEY"))
    start = time.process_time()
    assert secrets.struck(text) == text
    assert key not in secrets.struck(f"{text} {key}")
    assert time.process_time() - start < 2


def test_a_missing_key_and_a_wrong_url_are_rejected():
    with pytest.raises(ConfigError, match=r"NO_SUCH_KEY.*not set"):
        ChatClient(Endpoint(url="http://127.0.0.1:1/v1", model="m", api_key_env="NO_SUCH_KEY"))
    with pytest.raises(ValidationError, match=r"url\n.*base URL"):
        Endpoint(url="ftp://x", model="m")


def test_a_question_is_sent_once_and_what_shapes_its_answer_is_part_of_it(server, tmp_path):
    server.script = ["fine"]
    settings = {"cache": str(tmp_path / "cache")}
    red, blue = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))
    content = [{"type": "image"}]
    questions = [
        *(question(), question("other"), question(seed=1), question(temperature=0.5), question(n=2)),
        *(question(schema={"type": "object"}), question(max_tokens=3)),
        *(ChatRequest([{"role": "user", "content": content}], [image]) for image in (red, blue)),
    ]
    assert not any(answer.cached for answer in client(server, **settings).ask(questions))
    again = client(server, **settings)
    answers = again.ask(questions)
    assert all(answer.cached for answer in answers)
    assert [answer.texts for answer in answers] == [["fine"] * request.n for request in questions]
    assert len(server.bodies) == len(questions) == again.usage.cached
    assert not client(server, **settings, max_tokens=7).ask(questions[:1])[0].cached


def test_failures_are_not_cached(server, tmp_path):
    server.script = [{"status": 404}, "fine"]
    chat = client(server, cache=str(tmp_path / "cache"))
    assert chat.ask([question()])[0].texts is None
    assert chat.ask([question()])[0].texts == ["fine"]


def test_a_full_disk_loses_no_answer(server, tmp_path, monkeypatch, capsys):
    server.script = ["fine"]
    chat = client(server, cache=str(tmp_path / "cache"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert [answer.texts for answer in chat.ask([question("a"), question("b")])] == [["fine"], ["fine"]]
    assert chat.usage.cache_errors == 2
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


DAMAGES = [
    b"",
    b"\x00\xff",
    b"[" * 100_000,
    b"[]",
    b"{}",
    b'{"choices": [{"message": {"content": 7}}]}',
    b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
    b'{"texts": ["wrong"], "token_ids": null, "truncated": [false]}',
    b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",  # a pickle
]


@pytest.mark.parametrize("data", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_cache_loses_no_answer(server, tmp_path, data, monkeypatch):
    monkeypatch.setattr("pickle.loads", None)
    server.script = ["fine"]
    chat = client(server, cache=str(tmp_path / "cache"))
    chat.ask([question()])
    [path] = (tmp_path / "cache").rglob("*.json")
    path.write_bytes(data)
    [answer] = client(server, cache=str(tmp_path / "cache")).ask([question()])
    assert answer.texts == ["fine"]
    assert not answer.cached
    assert client(server, cache=str(tmp_path / "cache")).ask([question()])[0].cached


def test_the_cache_of_an_older_release_is_not_read(server, tmp_path, capsys):
    server.script = ["fine"]
    (tmp_path / "cache.db").write_bytes(b"SQLite format 3")
    assert client(server, cache=str(tmp_path)).ask([question()])[0].texts == ["fine"]
    assert capsys.readouterr().err.count("cache.db is of an older release") == 1


def test_a_cache_that_cannot_be_opened_is_an_error_at_once(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="name a folder that can be written"):
        client(server, cache=str(tmp_path / "file"))


def ask_many(url, cache, start, queue):
    chat = ChatClient(Endpoint(url=url, model="m", cache=cache, concurrency=4), first_pause=0.01)
    answers = [answer.texts for i in range(20) for answer in chat.ask([question(f"{(start + i) % 20}")])]
    queue.put((answers, chat.usage.cache_errors))


def test_two_processes_share_a_cache(server, tmp_path):
    server.script = ["fine"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=ask_many, args=(server.url, str(tmp_path / "cache"), start, queue)) for start in (0, 10)
    ]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert results == [([["fine"]] * 20, 0)] * 2
    assert 20 <= len(server.bodies) <= 40
    later = client(server, cache=str(tmp_path / "cache"))
    # 4 at a time or 8: what is asked does not depend on it.
    assert all(answer.cached for answer in later.ask([question(str(i)) for i in range(20)]))


def test_other_languages_are_passed_on_unchanged(server):
    server.script = [{"raw": completion("正确：是的")}]
    assert client(server).ask([question()])[0].texts == ["正确：是的"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "link of a folder"])
def test_what_is_no_file_in_a_cache_is_left_alone(server, tmp_path, kind):
    """Others may write into a shared cache: an answer goes into no link's target, and waits for no pipe."""
    server.script = ["fine"]
    settings = {"cache": str(tmp_path / "cache")}
    question = [ChatRequest([{"role": "user", "content": "?"}])]
    client(server, **settings).ask(question)
    [path] = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    path.unlink()
    (tmp_path / "target").write_text("mine")
    if kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path)
    chat = client(server, **settings)
    assert chat.ask(question)[0].texts == ["fine"]
    assert chat.usage.cache_errors >= 1
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / path.name).exists()
