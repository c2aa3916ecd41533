"""Drafted repairs: who drafts them, that they are made once and block nobody, and what people made of them."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from servers.unruly_server import unruly

from difference_feedback.annotate.drafted import DraftedRepair
from difference_feedback.annotate.drafters import Drafters, DraftSource, closest, draft_source
from difference_feedback.annotate.feedback import is_right
from difference_feedback.annotate.items import find_work, load_work
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.world.nano import load_base

STARTER = Path(__file__).parents[2] / "examples" / "mathvision_starter"


@pytest.fixture
def items(tmp_path):
    """Six items, 4 and 5 on one question, the image of 3 unreadable."""
    rows = []
    for i in range(6):
        colour = (50 * min(i, 4), 0, 0)
        Image.new("RGB", (28, 28), colour).save(tmp_path / f"{i}.png")
        row = {"id": str(i), "question": "how many dots ?", "image": f"{i}.png", "answer": "9", "rule": "embedded"}
        rows.append(row | {"draft": f"i see {i} . answer {i}", "reference": f"there are 9 , said {i} . answer 9"})
    (tmp_path / "3.png").write_bytes(b"not a picture")
    write_jsonl(tmp_path / "items.jsonl", rows)
    return tmp_path / "items.jsonl"


def project(items, where=None, **options):
    work = load_work(items, "draft")
    sources = where if isinstance(where, list) else [where] if where else []
    sources = [
        s if isinstance(s, DraftSource) else draft_source(s, work.rows, items.parent, **options) for s in sources
    ]
    return RepairProject(work, drafters=Drafters(sources) if sources else None)


def drafted(project):
    """Draft all, and return the drafted texts by id, and what was reported."""
    reports = []
    project.drafted.start(project.repairs, reports.append)
    project.drafted._thread.join(60)
    assert not project.drafted._thread.is_alive()
    return {item["id"]: project.drafted.of(item) for item in project.items}, reports


TEXTS = ("answer 9", "i see 9 . answer 9", "i see 8 . answer 8", "i see 1 . answer 1", " ", "a")


@given(st.lists(st.sampled_from(TEXTS)))
def test_a_right_repair_goes_before_an_ungraded_one_and_fewer_edits_before_more(candidates):
    item = {"draft": "i see 1 . answer 1", "answer": "9", "rule": "embedded"}
    text = closest(item, candidates)
    useful = [c for c in candidates if c.strip() and c != item["draft"]]
    assert (text is None) == (not useful)
    if text is not None:
        assert is_right(item, text) == any(is_right(item, c) for c in useful)
    if "i see 9 . answer 9" in candidates:
        assert text == "i see 9 . answer 9"  # two edits; "answer 9" has more
    ungraded = closest(item | {"answer": None}, candidates)
    if "i see 8 . answer 8" in candidates:
        assert ungraded in ("i see 8 . answer 8", "i see 9 . answer 9")  # two edits each


def test_the_closest_sibling_is_of_the_same_question_and_image(items):
    rows = [{"id": "0", "response": text} for text in ("i see 9 . answer 9", "i see 0 . answer 1", "answer 8")]
    write_jsonl(items.parent / "responses.jsonl", [*rows, {"id": "4", "response": "i see 4 . answer 9"}])
    texts, _ = drafted(project(items, "sibling"))
    assert texts["0"] == DraftedRepair("0", "i see 9 . answer 9", "sibling")
    assert texts["1"].text == "there are 9 , said 1 . answer 9"  # no other question's, though the words are the same
    assert texts["4"].text == "i see 4 . answer 9"
    assert texts["5"].text == "there are 9 , said 5 . answer 9"
    names = json.loads(items.read_text().splitlines()[5]) | {"id": "4-2", "reference": None}
    write_jsonl(items, [json.loads(items.read_text().splitlines()[4]), names])
    texts, _ = drafted(project(items, "sibling"))
    assert texts["4-2"].text == "i see 4 . answer 9"  # `repair collect` calls the second item of question 4 so


def test_a_local_model_drafts_once_and_later_starts_use_what_it_made(items, tmp_path):
    folder = tmp_path / "run" / "model"
    model, processor = load_base()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    first = project(items, f"repair_model={tmp_path / 'run'}")
    texts, reports = drafted(first)
    assert reports == []
    rows = read_rows(beside(items, "drafted"))
    assert [row["id"] for row in rows] == list("012345")
    assert {row["drafted_by"] for row in rows if row["drafted"]} == {str(folder)}
    assert rows[3]["drafted"] is None  # its image cannot be read
    assert "no repair" in first.drafted.reason(first.items[3])
    assert all(texts[i].text != f"i see {i} . answer {i}" for i in texts if texts[i])
    again, _ = drafted(project(items, str(folder)))
    assert again == texts
    assert len(read_rows(beside(items, "drafted"))) == 6
    assert {i: project(items).drafted.of({"id": i, "draft": f"i see {i} . answer {i}"}) for i in texts} == texts
    changed = [json.loads(line) | {"draft": "another answer 3"} for line in items.read_text().splitlines()]
    write_jsonl(items, changed)
    assert not project(items).drafted.exist  # they were of other wrong answers


def test_a_served_model_drafts_and_an_outage_is_said_and_asked_again(items, openai_server):
    with unruly() as server:
        server.script = ["Here is the corrected draft:\n\n```\ni see 9 . answer 9\n```", {"status": 404}]
        work = project(items, server.url, model="m")
        texts, reports = drafted(work)
        assert texts["0"].text == "i see 9 . answer 9"
        assert texts["0"].by == "m"
        assert server.bodies[0]["n"] == 8
        said = server.bodies[0]["messages"][0]["content"]
        assert said[0]["type"] == "image_url"
        assert "<draft>\ni see 0 . answer 0\n</draft>" in said[1]["text"]
        assert "said 0" in said[1]["text"]
        assert [said.partition(" drafted")[0] for said in reports] == [
            *("No repair of 1, 2, 3, 4 is", "No repair of 5 is", "No more repairs are"),
        ]
        assert "No more repairs" in work.drafted.reason(work.items[4])
        sent = len(server.bodies)
        server.script = ["i see 9 . answer 9"]
        texts, reports = drafted(project(items, server.url, model="m"))
        assert reports == []
        assert len(server.bodies) - sent == 4  # for 1, 2, 4 and 5: the image of 3 cannot be read
        assert [i for i in texts if texts[i] is None] == ["3"]
    real = project(items, f"endpoint={openai_server.url}", model=openai_server.model)
    _, reports = drafted(real)  # the shipped nano behind a server; its rows are its own
    assert reports == []
    assert len(openai_server.requests) == 5


def test_responses_that_cannot_be_used_are_refused_at_once(items, tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl"):
        project(items, "sibling", responses=[tmp_path / "none.jsonl"])


@pytest.mark.parametrize(
    ("where", "options", "word"),
    [
        ("no/such/model/here", {}, "no such folder"),
        ("http://127.0.0.1:9/v1", {}, "--draft-model"),
        ("http://127.0.0.1:9/v1", {"model": "m"}, "cannot be reached"),
        ("http://127.0.0.1:9/v1", {"model": "m", "key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
    ],
)
def test_a_drafter_that_cannot_work_is_refused_at_once(items, where, options, word):
    os.environ.pop("NO_SUCH_KEY", None)
    with pytest.raises(ConfigError, match=word):
        project(items, where, **options)


def test_of_several_drafters_the_closest_right_repair_is_taken_and_named(items):
    def model(batch):
        texts = {"0": ["i see 9 . answer 9"], "1": ["i see 2 . answer 2"], "2": None}
        return [texts.get(item["id"], []) for item in batch]

    work = project(items, [DraftSource("m", lambda: model), "sibling"])
    texts, _ = drafted(work)
    assert texts["0"] == DraftedRepair("0", "i see 9 . answer 9", "m")  # both are right, and it is closer
    assert texts["1"] == DraftedRepair("1", "there are 9 , said 1 . answer 9", "sibling")  # the other one is wrong
    assert texts["2"] is None
    assert "m or sibling did not answer" in work.drafted.reason(work.items[2])
    assert texts["3"].by == "sibling"
    assert project(items).drafted.of(work.items[0]) == texts["0"]


def test_the_item_at_hand_is_drafted_first_and_nobody_waits(items):
    asked, begun, go = [], threading.Event(), threading.Event()

    def draft(batch):
        asked.append([item["id"] for item in batch])
        begun.set()
        go.wait(30)
        return [[f"answer 9 said {item['id']}"] for item in batch]

    work = project(items, DraftSource("slow", lambda: draft))
    work.save("bob", 5, "i see 9 . answer 9")
    work.drafted.want(2)
    work.drafted.start(work.repairs, print)
    assert begun.wait(30)
    assert work.drafted.of(work.items[2]) is None  # the page is not blocked, and says what it waits for
    assert work.drafted.awaited(work.items[2])
    assert "being made" in work.drafted.reason(work.items[2])
    go.set()
    work.drafted._thread.join(30)
    assert asked == [["2"], ["3", "4", "0", "1"]]  # 5 is repaired already


def test_a_drafter_that_breaks_on_one_item_goes_on_and_one_that_breaks_on_all_stops(items):
    def draft(batch):
        if "0" in [item["id"] for item in batch]:
            raise MemoryError("out of memory")
        return [["answer 9"] for _ in batch]

    def broken():
        raise OSError("no such weights")

    work = project(items, DraftSource("mended", lambda: draft))
    texts, reports = drafted(work)
    assert [name for name in texts if texts[name] is None] == ["0"]
    assert reports == ["No repair of 0 is drafted: out of memory"]
    assert "next start" in work.drafted.reason(work.items[0])
    work = project(items, DraftSource("broken", broken))
    texts, reports = drafted(work)
    assert set(texts.values()) == {None}
    assert reports[-1] == work.drafted.reason(work.items[5]) == "No more repairs are drafted: no such weights"
    work.save("ada", 0, "i see 9 . answer 9")
    assert set(work.repairs()) == {"0"}


def test_rows_say_what_was_drafted_and_the_summary_counts_what_people_changed(items):
    work = project(items)
    by_model = [DraftedRepair(str(i), "i see 9 . answer 9", "a model") for i in range(4)]
    work.save("ada", 0, " i see 9 . answer 9 ", by_model[0])
    work.save("ada", 1, "i see 7 . answer 9", by_model[1])
    work.save("ada", 1, "i see 9 , so answer 9", by_model[1])  # she thinks again: two edits of six words
    work.save("ada", 2, "i see 9 . answer 8", by_model[2])
    work.save("ada", 4, "i see 9 . answer 9")
    rows = read_rows(work.output.path)
    assert [row.get("changed") for row in rows] == [False, True, True, True, None]
    assert [row["drafted_by"] for row in rows] == ["a model"] * 4 + [None]
    assert rows[0]["drafted"] == "i see 9 . answer 9"
    [summary] = work.corrections()
    assert (summary.by, summary.count, summary.changed, summary.wrong) == ("a model", 3, 2, 1)
    assert summary.cost == pytest.approx((0 + 2 / 7 + 1 / 6) / 3)
    assert summary.cost_by_hand == pytest.approx((2 / 6 + 4 / 7 + 2 / 6) / 3)
    assert "changed 2 of 3 repairs (67%, interval 21% to 94%)" in str(summary)
    assert "The grader calls 1 of them wrong." in str(summary)
    repairs = load_repair_set(work.output.path)
    assert [row.repaired for row in repairs.rows] == [row["repaired"] for row in (rows[0], rows[2], rows[3], rows[4])]
    assert (repairs.errors, repairs.replaced) == ([], 1)


def test_the_starter_set_opens_and_is_as_its_card_says():
    work, audits = find_work(STARTER)
    assert (len(work.rows), work.problems, audits) == (120, [], None)
    assert all(is_right(row, row["draft"]) is False for row in work.rows)
    assert all(is_right(row, row["reference"]) for row in work.rows)
    images = {name for row in work.rows for name in row["image"]}
    assert images == {f"images/{path.name}" for path in (STARTER / "images").iterdir()}
    assert sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file()) < 3_000_000
    levels = [sum(row["level"] == level for row in work.rows) for level in range(1, 6)]
    card = (STARTER / "README.md").read_text()
    assert f"| items, questions | {len(work.rows)}, {len(images)}:" in card
    assert f"| level 1 to 5 | {', '.join(map(str, levels))} |" in card
    assert f"| reference shorter than 8 words | {sum(len(row['reference'].split()) < 8 for row in work.rows)}," in card
    models = [sum(row["source"]["draft"] == name for row in work.rows) for name in ("gemini-pro-vision", "qwen-vl-max")]
    assert "gemini-pro-vision {}, qwen-vl-max {},".format(*models) in card
