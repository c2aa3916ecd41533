"""The annotation page under restarts, changed files, other tabs, kills, and requests that are not the page's own."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("gradio")
from servers.open_page import OpenPage

from difference_feedback.annotate.guard import LARGEST_BODY
from difference_feedback.annotate.serve import TOKEN, serve
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.runs.jsonl import read_rows, write_jsonl

pytestmark = pytest.mark.faults
RIGHT = "I see 9 . answer 9"


def item(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": str(number), "question": "How many?", "draft": f"I see {number} . answer {number}"}
    return row | {"answer": "9", "rule": "embedded"} | changes


@pytest.fixture
def items(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "items.jsonl", map(item, range(5)))
    return tmp_path / "items.jsonl"


@pytest.fixture
def served() -> Iterator[Any]:
    """Serves a file until the test ends; an earlier server of the test is closed first, so that its port is free."""
    servers: list[Any] = []

    def start(source: Path, **options: Any) -> Any:
        port = servers[-1].port if servers else 0
        for server in servers:
            server.close()
        servers.append(serve(source, port=port, block=False, **{"annotator": "ada"} | options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def saved(items: Path) -> list[tuple[str, str]]:
    rows = read_rows(items.with_name("items.annotated.jsonl"))
    return [(row["id"], row["repaired"]) for row in rows]


def opened_at(url: str, number: int) -> OpenPage:
    page = OpenPage(url)
    while page["editor"] != item(number)["draft"]:
        page.click("skip")
    return page


# What has become of the file of the items while the page was open, and what a save of item 3 must do then.
CHANGES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing": ([item(i) for i in range(5)], "saved"),
    "a row is inserted": ([item(9), *map(item, range(5))], "saved"),
    "the rows are reversed": ([item(i) for i in reversed(range(5))], "saved"),
    "other rows are removed": ([item(3)], "saved"),
    "its wrong answer is another": ([item(0), item(3, draft="I see 7 . answer 7")], "shown again"),
    "its question is another": ([item(0), item(3, question="How few?")], "shown again"),
    "its id is another's": ([item(0), item(4) | {"id": "3"}], "shown again"),
    "it is removed": ([item(0), item(4)], "kept"),
}


@pytest.mark.parametrize("restarts", [True, False], ids=["restarted", "running"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_save_goes_to_the_item_that_was_shown_or_nowhere(
    served: Any, items: Path, change: str, restarts: bool
) -> None:
    rows, outcome = CHANGES[change]
    server = served(items)
    page = opened_at(server.local_url, 3)
    page["editor"] = RIGHT
    write_jsonl(items, rows)
    if restarts:
        served(items)
    message = page.click("save")
    if outcome == "saved":
        assert "Saved 3." in message
        assert saved(items) == [("3", RIGHT)]
        return
    assert "Nothing was saved" in message
    assert saved(items) == []
    if outcome == "shown again":
        assert page["editor"] == RIGHT
        assert rows[1]["draft"].split()[2] in page["feedback"]
        assert rows[1]["question"] in page["question"]
        assert "Saved 3." in page.click("save")
        assert saved(items) == [("3", RIGHT)]
    else:
        assert page["kept"] == RIGHT
        assert page["editor"] == item(4)["draft"] or page["editor"] == item(0)["draft"]


@pytest.mark.parametrize("button", ["skip", "back", "accept"])
def test_no_other_button_acts_on_another_item(served: Any, items: Path, button: str) -> None:
    page = opened_at(served(items).local_url, 3)
    page["editor"] = "half of a repair"
    write_jsonl(items, [item(0), item(3, draft="I see 7 . answer 7")])
    skips = len(read_rows(items.with_name("items.skipped.jsonl")))
    served(items)
    assert "has changed since it was shown" in page.click(button)
    assert page["editor"] == "half of a repair"
    assert len(read_rows(items.with_name("items.skipped.jsonl"))) == skips
    assert saved(items) == []


def test_two_tabs_on_one_item_overwrite_nothing_unseen(served: Any, items: Path) -> None:
    url = served(items).local_url
    first, second = OpenPage(url), OpenPage(url)
    assert first["editor"] == second["editor"] == item(0)["draft"]
    first["editor"], second["editor"] = RIGHT, "it is 9 . answer 9"
    assert "Saved 0." in first.click("save")
    message = second.click("save")
    assert "saved in another tab" in message
    assert RIGHT in message
    assert second["editor"] == "it is 9 . answer 9"
    assert saved(items) == [("0", RIGHT)]
    assert "Saved 0." in second.click("save")
    assert saved(items)[-1] == ("0", "it is 9 . answer 9")


def test_the_same_save_twice_is_one_row(served: Any, items: Path) -> None:
    page = OpenPage(served(items).local_url)
    page["editor"] = RIGHT
    before = dict(page.values)
    page.click("save")
    page.values = before
    page.click("save")
    assert saved(items) == [("0", RIGHT)]
    assert page["editor"] == item(1)["draft"]


def test_another_person_or_another_project_at_the_same_address_gets_nothing_unasked(
    served: Any, items: Path, tmp_path: Path
) -> None:
    page = OpenPage(served(items).local_url)
    page["editor"] = RIGHT
    served(items, annotator="bob")
    assert "saves for bob now" in page.click("save")
    assert saved(items) == []
    other = tmp_path / "other.jsonl"
    write_jsonl(other, map(item, range(5)))
    served(other)
    assert "other items" in page.click("save")
    assert (page["kept"], saved(items)) == (RIGHT, [])
    assert not other.with_name("other.annotated.jsonl").exists()


def test_a_page_with_reviews_alone_takes_no_repair_and_no_repair_for_a_review(served: Any, items: Path) -> None:
    page = OpenPage(served(items).local_url)
    page["editor"] = RIGHT
    folder = items.parent / "audited"
    cases = [AuditCase("?", (), f"draft {i}", f"repair {i}", "ref") for i in range(3)]
    AuditLog(folder).write(0, "auditor", cases, [AuditResult("clean", "words", "why")] * 3)
    served(folder)
    assert "without wrong answers. Nothing was saved" in page.click("save")
    assert page["editor"] == RIGHT
    assert not (folder / "reviews.jsonl").exists()
    review = OpenPage(str(page.client.base_url))
    review["verdict"], review["note"] = "unseen_evidence", "a note"
    rows = read_rows(folder / "audits.jsonl")
    rows[0]["repair"] = "another repair"
    write_jsonl(folder / "audits.jsonl", rows)
    assert "has changed since" in review.click("review-save")
    assert (review["verdict"], review["note"]) == ("unseen_evidence", "a note")
    assert not (folder / "reviews.jsonl").exists()
    assert "Saved" in review.click("review-save")
    assert [row["verdict"] for row in read_rows(folder / "reviews.jsonl")] == ["unseen_evidence"]


@pytest.mark.parametrize("junk", [None, "", "{}", "[]", 7, '{"id": "0"}', "x" * 9999, "[" * 5000])
def test_a_save_that_names_nothing_is_refused_and_its_text_kept(served: Any, items: Path, junk: Any) -> None:
    page = OpenPage(served(items).local_url)
    page["shown"], page["editor"] = junk, RIGHT
    assert "Nothing was saved" in page.click("save")
    assert (saved(items), page["kept"]) == ([], RIGHT)


COMMAND = "from difference_feedback.cli import main; main()"


def started(items: Path) -> tuple[subprocess.Popen[str], str]:
    words = [sys.executable, "-c", COMMAND, "annotate", str(items), "--port", "0", "--annotator", "ada"]
    environment = {name: value for name, value in os.environ.items() if name != TOKEN}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr
    for line in server.stderr:
        if found := re.search(r"http://\S+/", line):
            return server, found[0]
    raise AssertionError("the server did not start")


@pytest.mark.parametrize("text", ["\ud83d", "a \udfff b"])
def test_half_of_a_character_is_refused_and_shown_and_ends_no_connection(served: Any, items: Path, text: str) -> None:
    server = served(items)
    page = OpenPage(server.local_url)
    [typed] = [i for i, e in enumerate(page.config["dependencies"]) if [page.names["editor"], "input"] in e["targets"]]
    page["editor"] = text
    page.send(typed)
    assert "half of a character" in page.click("save")
    write_jsonl(items, (item(i, question="How few?") for i in range(5)))
    assert "has changed since it was shown" in page.click("save")
    assert page["editor"] == "".join(sign if sign.isascii() else "\ufffd" for sign in text)
    broken = {"data": [], "fn_index": typed, "session_hash": "\ud83d"}
    assert page.client.post("/gradio_api/queue/join", content=json.dumps(broken)).status_code == 400
    page["editor"] = RIGHT
    assert "Saved 0." in page.click("save")
    assert saved(items) == [("0", RIGHT)]


def test_every_save_that_was_acknowledged_survives_kills(items: Path) -> None:
    count, rng = 400, random.Random(0)
    write_jsonl(items, map(item, range(count)))
    acknowledged: dict[str, str] = {}
    for kill in range(3):
        server, url = started(items)
        try:
            page = OpenPage(url)
            # The first kill is by time, the others in the middle of a request.
            timer = threading.Timer(1.0 + rng.random(), server.send_signal, [signal.SIGKILL])
            timer.start()
            while True:
                name = json.loads(page["shown"])["id"]
                page["editor"] = text = f"kill {kill} : I see 9 . answer 9"
                try:
                    message = page.click("save")
                except httpx.HTTPError:
                    break
                assert f"Saved {name}." in message
                acknowledged[name] = text
        finally:
            timer.cancel()
            server.kill()
            server.wait()
            assert server.stderr
            server.stderr.close()
    assert len(acknowledged) > 30
    rows = {row["id"]: row["repaired"] for row in read_rows(items.with_name("items.annotated.jsonl"))}
    assert acknowledged.items() <= rows.items()
    assert len(rows) <= len(acknowledged) + 3  # a save may be on the disk before it is acknowledged


HOSTS = {
    "localhost": 200,
    "localhost:{port}": 200,
    "LOCALHOST:1": 200,
    "127.0.0.1:{port}": 200,
    "[::1]:{port}": 200,
    "evil.example": 403,
    "evil.example:{port}": 403,
    "127.0.0.1.evil.example": 403,
    "localhost.evil.example": 403,
    "localhost@evil.example": 403,
    "evil.example#localhost": 403,
    "0.0.0.0": 403,
    "169.254.169.254": 403,
    "": 403,
}
LEFT = ("/", "/config", "/theme.css", "/manifest.json", "/robots.txt", "/favicon.ico", "/gradio_api/info")
GONE = [
    ("POST", "/gradio_api/upload"),
    ("POST", "/upload"),
    ("GET", "/gradio_api/upload_progress?upload_id=x"),
    ("GET", "/gradio_api/file={file}"),
    ("GET", "/gradio_api/file/{file}"),
    ("GET", "/file={file}"),
    ("GET", "/gradio_api/file=http://127.0.0.1:9/"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:9/"),
    ("GET", "/gradio_api/custom_component/x/client/component/index.js"),
    ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"),
    ("POST", "/gradio_api/call/saved"),
    ("POST", "/gradio_api/run/saved"),
    ("POST", "/gradio_api/api/saved"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/cancel"),
    ("GET", "/gradio_api/deep_link?session_hash=x"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/gradio_api/token"),
    ("GET", "/gradio_api/mcp/sse"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/svelte/../x"),
    ("GET", "/assets/..%2f..%2froutes.py"),
    ("GET", "/static/%2e%2e/routes.py"),
    ("PUT", "/"),
    ("DELETE", "/gradio_api/queue/join"),
    ("OPTIONS", "/gradio_api/queue/join"),
    ("TRACE", "/"),
]


def test_what_the_page_does_not_need_is_not_there(served: Any, items: Path) -> None:
    server = served(items)
    with httpx.Client(base_url=server.local_url) as client:
        for host, status in HOSTS.items():
            for path in ("/", "/config"):
                sent = client.get(path, headers={"Host": host.format(port=server.port)})
                assert sent.status_code == status, host
        secret = str(items.resolve())
        for path in LEFT:
            answer = client.get(path)
            assert answer.status_code in (200, 404), path  # a manifest is optional
            assert str(items.parent) not in answer.text
            assert "script-src" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
        for method, path in GONE:
            answer = client.request(method, path.format(file=secret), headers={"Origin": server.local_url.rstrip("/")})
            assert answer.status_code in (403, 404), (method, path)
            assert "How many" not in answer.text


def test_other_sites_write_nothing_and_no_request_is_endless(served: Any, items: Path) -> None:
    server = served(items)
    page = OpenPage(server.local_url)
    page["editor"] = RIGHT
    own, join = server.local_url.rstrip("/"), "/gradio_api/queue/join"
    [save] = [i for i, e in enumerate(page.config["dependencies"]) if [page.names["save"], "click"] in e["targets"]]
    inputs = [page.values.get(i) for i in page.config["dependencies"][save]["inputs"]]
    body = {"data": inputs, "fn_index": save, "session_hash": "another"}
    foreign = ("http://evil.example", f"http://evil.example:{server.port}", "http://localhost:3000", "null", "file://")
    for headers in [*({"Origin": origin} for origin in foreign), {"Sec-Fetch-Site": "cross-site"}]:
        assert page.client.post(join, json=body, headers=headers).status_code == 403, headers
        data = page.client.get("/gradio_api/queue/data?session_hash=another", headers=headers)
        assert data.status_code == 403
    time.sleep(0.3)
    assert saved(items) == []
    large = b" " * (LARGEST_BODY + 1)
    assert page.client.post(join, content=large).status_code == 413
    assert page.client.post(join, content=iter([large[: LARGEST_BODY // 2 + 1]] * 2)).status_code == 413
    assert page.client.post(join, json=body, headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).is_success
    deadline = time.monotonic() + 10
    while not saved(items) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert saved(items) == [("0", RIGHT)]


def test_with_a_token_any_name_answers_and_everyone_logs_in(
    served: Any, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "a-long-enough-token")
    server = served(items)
    with httpx.Client(base_url=server.local_url, headers={"Host": "annotate.example"}) as client:
        assert '"auth_required":true' in client.get("/").text.replace(" ", "")
        join = {"data": [], "fn_index": 0, "session_hash": "x"}
        assert client.post("/gradio_api/queue/join", json=join).status_code == 401
        assert client.get("/config").status_code == 401
        good = {"username": "ada", "password": "a-long-enough-token"}
        for change in ({"password": "wrong"}, {"password": ""}, {"username": " "}, {"username": "a\x1b"}):
            assert client.post("/login", data=good | change).is_error, change
        assert client.post("/login", data=good, headers={"Origin": "http://evil.example"}).status_code == 403
        cookies = client.post("/login", data=good).raise_for_status().headers.get_list("set-cookie")
    [cookie] = [c.split(";")[0] for c in cookies if "unsecure" in c]
    page = OpenPage(server.local_url, headers={"Cookie": cookie})
    page["editor"] = RIGHT
    assert "Saved 0." in page.click("save")
    assert [row["annotator"] for row in read_rows(items.with_name("items.annotated.jsonl"))] == ["ada"]
