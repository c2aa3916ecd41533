"""The files of the page: rows of several people and processes survive crashes, and reviewers see no verdicts."""

import base64
import io
import json
import socket
import time

import pytest
from PIL import Image

from difference_feedback.annotate import projects
from difference_feedback.annotate.drafted import DraftedRepair
from difference_feedback.annotate.feedback import feedback_html, is_right
from difference_feedback.annotate.items import find_work, load_work
from difference_feedback.annotate.page_parts import images_html, message_html, offer_html, question_html
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.annotate.reviews import HIDDEN, ReviewProject
from difference_feedback.annotate.serve import TOKEN, _token, log_in, serve
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.runs.jsonl import read_rows, write_jsonl

RULES = {None: True, "": True, "final-answer": True, "embedded": True, "number": True}  # `grade` writes the last one
RULES |= dict.fromkeys(("mathvista", "llm-judge", "a.py:f", "/b c/d.py:g", "final-answer + a.py:f"))


@pytest.mark.parametrize(("rule", "verdict"), RULES.items())
def test_the_page_grades_by_the_rules_that_it_has(tmp_path, rule, verdict):
    text = r"\boxed{9} answer 9"
    item = {"id": "1", "draft": "answer 8", "answer": "9", "rule": rule}
    assert is_right(item, text) is verdict
    assert ("not graded by your reward" in feedback_html(item, text)) == (verdict is None)
    assert "no annotated answer" in feedback_html(item | {"answer": None, "rule": "embedded"}, text)


HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)>'


@pytest.fixture
def items(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "a.png")
    rows = [
        {"id": str(i), "question": "How many?", "image": ["images/a.png"], "draft": f"I see {i} . answer {i}"}
        | {"reference": "it is 9 . answer 9", "answer": "9", "rule": "embedded"}
        for i in range(4)
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def project(items):
    return RepairProject(load_work(items, "draft"))


def test_a_repair_is_on_disk_at_once_and_the_next_item_opens(items):
    work = project(items)
    assert work.next("ada") == 0
    work.save("ada", 0, " I see 9 . answer 9 ")
    assert work.next("ada", 0) == 1
    again = project(items)
    assert again.next("ada") == 1
    assert again.text("ada", 0) == "I see 9 . answer 9"
    assert again.text("ada", 1) == "I see 1 . answer 1"
    progress = again.progress("ada")
    assert (progress.done, progress.skipped, progress.remaining) == (1, 0, 3)


def test_what_is_saved_is_taken_by_repair_sft(items):
    work = project(items)
    work.save("ada", 0, "I see 9 . answer 9")
    work.save("ada", 1, "wrong at first")
    work.save("ada", 1, "I see 9 . answer 9")
    work.save("bob", 1, "answer 9")
    repairs = load_repair_set(work.output.path)
    assert repairs.errors == []
    assert repairs.replaced == 1
    assert [(row.id, row.repaired) for row in repairs.rows] == [
        *[("0 by ada", "I see 9 . answer 9"), ("1 by ada", "I see 9 . answer 9"), ("1 by bob", "answer 9")],
    ]
    assert repairs.rows[0].reference == "it is 9 . answer 9"
    assert repairs.rows[0].images[0].getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(("text", "says"), [(" ", "empty"), ("I see 0 . answer 0", "answer is unchanged")])
def test_empty_and_unchanged_repairs_are_not_saved(items, text, says):
    work = project(items)
    with pytest.raises(DataError, match=says):
        work.save("ada", 0, text)
    assert not work.output.path.exists()


def test_two_annotators_are_not_offered_the_same(items, monkeypatch):
    ada, bob = project(items), project(items)
    assert ada.next("ada") == 0
    assert bob.next("bob") == 1
    ada.skip("ada", 0)
    assert ada.next("ada", 0) == 2
    bob.save("bob", 1, "answer 9")
    assert bob.next("bob", 1) == 3
    assert ada.next("ada", 2) == 2  # her own; 0 is skipped, 1 repaired, 3 is open elsewhere
    monkeypatch.setattr(projects, "CLAIM", 0.0)
    assert ada.next("ada", 2) == 3  # its claim has lapsed


def test_only_the_line_cut_off_by_a_crash_is_lost(items):
    work = project(items)
    work.save("ada", 0, "answer 9")
    with work.output.path.open("a") as file:
        file.write('{"id": "1", "repaired": "ans')
    work.save("ada", 2, "answer 9")
    assert set(work.repairs()) == {"0", "2"}
    repair_set = load_repair_set(work.output.path)
    assert [row.id for row in repair_set.rows] == ["0 by ada", "2 by ada"]
    assert repair_set.errors == []


def test_a_full_disk_is_reported_and_nothing_is_half_written(items, monkeypatch):
    work = project(items)
    work.save("ada", 0, "answer 9")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("difference_feedback.runs.jsonl.os.fsync", full)
    with pytest.raises(DataError, match=r"No space left on device; .* Nothing was saved"):
        work.save("ada", 1, "answer 9")
    monkeypatch.undo()
    assert set(work.repairs()) == {"0"}


def test_rows_that_cannot_be_used_are_named_and_the_others_offered(items, tmp_path):
    (tmp_path.parent / "secret.png").write_bytes(b"x")
    bad = [
        {"id": "0", "question": "again", "draft": "x"},
        {"question": "no id", "draft": "x"},
        {"id": "b", "question": "?", "draft": " "},
        {"id": "c", "question": "?", "draft": "x", "image": "../secret.png"},
        {"id": "d", "question": "?", "draft": "x", "image": "none.png"},
    ]
    with items.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in bad) + "{broken\n")
    work = load_work(items, "draft")
    assert [row["id"] for row in work.rows] == ["0", "1", "2", "3"]
    messages = sorted(str(problem) for problem in work.problems)
    assert len(messages) == 6
    for part in ("earlier line", '"id": missing', '"draft"', "lies outside", "there is no file", "no valid JSON"):
        assert any(part in line for line in messages), part


def test_sources_that_hold_nothing_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; give"):
        find_work(tmp_path / "none")
    with pytest.raises(ConfigError, match="keep_wrong_answers=N"):
        find_work(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="it has no row"):
        find_work(tmp_path / "empty.jsonl")


def test_a_demo_s_examples_become_items(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "blue").save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    example = {"id": "count 1", "question": "?", "images": [url], "answer": "red", "reference": "answer red"}
    example |= {"wrong": {"tokens": ["answer", " blue", "⏎"], "mask": [False, True, False]}}
    (tmp_path / "examples.jsonl").write_text(json.dumps(example) + "\n")
    repairs, audits = find_work(tmp_path)
    assert audits is None
    assert (repairs.rows[0]["draft"], repairs.rows[0]["answer"]) == ("answer blue", "red")
    assert is_right(repairs.rows[0], "answer red") is True


@pytest.fixture
def audits(tmp_path):
    log = AuditLog(tmp_path)
    image = Image.new("RGB", (8, 8), "blue")
    cases = [AuditCase("?", (image,), f"draft {i}", f"repair {i}", "ref") for i in range(4)]
    verdicts = ("clean", "unseen_evidence", "clean", None)
    log.write(1, "auditor-x", cases, [AuditResult(v, "quoted words", "said why") for v in verdicts])
    return log.path


def test_a_review_is_blind_and_agreement_follows(audits):
    _, work = find_work(audits.parent)
    review = ReviewProject(work)
    assert len(review.items) == 3  # the outage is nobody's to review
    visible = json.dumps(review.items)
    assert not any(f'"{name}"' in visible for name in HIDDEN)
    assert "quoted words" not in visible
    assert review.agreement() is None
    for place, verdict in enumerate(("clean", "unseen_evidence", "mask_hallucination")):
        assert review.next("ada", place - 1) == place
        review.save("ada", place, verdict, note="hm" if place == 2 else "")
    assert review.next("ada") is None
    current = review.agreement()
    assert (current.n, current.raw) == (3, pytest.approx(2 / 3))
    assert current.confusion["clean"] == {"clean": 1, "mask_hallucination": 1}
    review.save("ada", 2, "clean")  # she thinks again: her last word counts
    assert review.agreement().raw == 1
    assert [row["verdict"] for row in read_rows(review.reviews.path)][-1] == "clean"
    with pytest.raises(DataError, match="choose one of"):
        review.save("ada", 0, "fine")


def test_data_never_becomes_markup():
    item = {
        "id": "1",
        "question": HOSTILE,
        "reference": HOSTILE,
        "answer": HOSTILE,
        "options": [HOSTILE],
        "draft": HOSTILE,
    }
    offer = offer_html(item, DraftedRepair("1", HOSTILE, HOSTILE))
    for html in (question_html(item), feedback_html(item, HOSTILE + " more"), message_html(HOSTILE), offer):
        assert "<script" not in html
        assert "<img src=x" not in html


def test_feedback_shows_mask_cost_and_verdict(items):
    item = load_work(items, "draft").rows[1]
    html = feedback_html(item, "I see 9 . answer 9")
    assert html.count('<mark class="edit">') == 4
    assert "2 edits, edit cost <b>0.333</b> in words" in html
    assert "✓ right" in html
    assert "✗ wrong" in feedback_html(item, item["draft"])
    assert is_right({"answer": "B", "options": ["1", "2"]}, "The answer is (B).") is True
    assert is_right({"answer": None}, "x") is None


def test_images_are_put_into_the_page(items):
    html = images_html(load_work(items, "draft").rows[0], items.parent)
    assert html.count('src="data:image/png;base64,') == 1


def test_an_image_that_cannot_be_shown_leaves_the_rest_of_the_item(items):
    folder = items.parent / "images"
    Image.new("RGB", (9000, 9000)).save(folder / "large.png")
    whole = (folder / "large.png").read_bytes()
    (folder / "bomb.png").write_bytes(whole.replace((9000).to_bytes(4, "big") * 2, (30000).to_bytes(4, "big") * 2))
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_bytes(b"GIF89a, but not really")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (30, 30), "red").save(folder / "a.tiff")
    bad = ["bomb.png", "cut.png", "text.png", "empty.png", "no_longer_there.png"]
    html = images_html({"image": [f"images/{name}" for name in [*bad, "a.png", "a.tiff"]]}, items.parent)
    for name in bad:
        assert f"images/{name} cannot be shown" in html
    assert html.count('src="data:image/png;base64,') == 2  # browsers show no TIFF


def test_fields_of_a_wrong_kind_are_named_before_the_page_opens(items):
    rows = [json.loads(items.read_text().splitlines()[0]) | {"id": str(i)} for i in range(6)]
    rows[4] |= {"reference": ["a", "list"]}
    rows[5] |= {"draft": "half a pair \ud800"}
    rows[1] |= {"image": 5}
    rows[2] |= {"options": {"A": "x"}}
    rows[3] |= {"image": ["images/a.png", None]}
    write_jsonl(items, rows)
    work = load_work(items, "draft")
    assert [row["id"] for row in work.rows] == ["0"]
    fields = ["image", "options", "image", "reference", "draft"]
    assert [(problem.line, problem.field) for problem in work.problems] == list(enumerate(fields, 2))


def test_two_models_of_one_family_have_files_of_their_own(items):
    paths = [items.with_name(f"qwen2.{i}-vl.jsonl") for i in (0, 5)]
    for path in paths:
        path.write_text(items.read_text())
    first, second = map(project, paths)
    first.save("ada", 0, "answer 9")
    first.skip("ada", 1)
    assert second.progress("ada").remaining == 4
    assert second.next("bob") == 0
    assert first.output.path.name == "qwen2.0-vl.annotated.jsonl"
    assert second.repairs() == {}


def test_repairs_under_the_name_that_was_cut_at_a_dot_are_found_again(items):
    path, other = items.with_name("qwen2.5-vl.jsonl"), items.with_name("qwen2.0-vl.jsonl")
    path.write_text(items.read_text())
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    write_jsonl(other, [row | {"draft": "another . answer 8"} for row in rows])
    old = items.with_name("qwen2.annotated.jsonl")
    mine = [row | {"repaired": "answer 9", "annotator": "ada"} for row in rows[:2]]
    write_jsonl(old, [*mine, rows[2] | {"draft": "another . answer 8", "repaired": "answer 9", "annotator": "ada"}])
    work = project(path)
    assert (set(work.repairs()), work.old_output) == ({"0", "1"}, old)
    assert set(project(other).repairs()) == {"2"}
    work.save("ada", 3, "answer 9")
    again = project(path)
    assert (set(again.repairs()), again.old_output) == ({"0", "1", "3"}, None)
    assert len(read_rows(old)) == 3
    assert project(items).old_output is None


def test_images_go_with_the_repairs_wherever_these_go(items, tmp_path):
    work = RepairProject(load_work(items, "draft"), tmp_path / "elsewhere" / "mine.jsonl")
    work.save("ada", 0, "answer 9")
    assert work.folder == items.parent
    work.save("bob", 1, "answer 9")
    rows = load_repair_set(work.output.path).rows
    assert [row.images[0].getpixel((0, 0)) for row in rows] == [(255, 0, 0)] * 2
    assert len(list((tmp_path / "elsewhere" / "images").iterdir())) == 1, "the same image is copied once"


def test_audits_of_a_run_below_are_found(audits, tmp_path):
    below = tmp_path / "repair_rl"
    below.mkdir()
    for name in ("audits.jsonl", "audit_images"):
        (tmp_path / name).rename(below / name)
    _, work = find_work(tmp_path)
    assert work.path == below / "audits.jsonl"
    assert len(work.rows) == 3


def test_beyond_loopback_people_log_in(monkeypatch, capsys, items):
    check = log_in("a-long-enough-token")
    assert check("ada", "a-long-enough-token")
    assert not check("ada", "a-long-enough-tokem")
    assert not check("ada", "")
    assert not check(" ", "a-long-enough-token")
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(ConfigError, match="shorter than 12"):
        serve(items, host="0.0.0.0", port=0, block=False)
    monkeypatch.delenv(TOKEN)
    from rich.console import Console

    token = _token(Console())
    assert len(token) > 16
    assert token in capsys.readouterr().out


def test_claims_are_dated(items):
    work = project(items)
    work.next("ada")
    [(_, row)] = work._claims.read()[0]
    assert abs(row["time"] - time.time()) < 60


def test_a_port_in_use_is_said_in_the_command_s_own_words(items):
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^port {port} is in use: give another --port, or 0"):
            serve(items, port=port, block=False)
