"""A page reads what is new in its files, whoever writes them, and its index equals a new reading of all."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from difference_feedback.annotate.followed import FollowedFile
from difference_feedback.annotate.items import load_work
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.annotate.shown import Shown, StaleError
from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import read_jsonl, write_jsonl


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "question": "?",
        "draft": f"answer {number}",
        "answer": "9",
        "rule": "embedded",
    } | changes


def test_a_followed_file_gives_each_row_once_and_all_of_them_after_a_rewrite(tmp_path: Path) -> None:
    """Against a reading of the whole file, over random appends, cuts, rewrites, replacements and removals."""
    rng, path = random.Random(0), tmp_path / "rows.jsonl"
    file, rows = FollowedFile(path), []
    for step in range(400):
        whole = path.read_bytes() if path.exists() else b""
        line = json.dumps({"n": step, "text": "é\u2028" * rng.randrange(30)}, ensure_ascii=rng.random() < 0.5).encode()
        kind = rng.randrange(9)
        if kind < 4:
            path.write_bytes(whole + line + b"\n")
        elif kind == 4:
            path.write_bytes(whole + line[: rng.randrange(len(line))])  # a row that is being written
        elif kind == 5:
            path.write_bytes(whole + rng.choice([b"\n", b"no row\n", line]))
        elif kind == 6 and whole:
            lines = whole.splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: rng.randrange(len(lines))]))
        elif kind == 7:
            other = path.with_name("other")
            other.write_bytes(line + b"\n" + whole)
            os.replace(other, path)
        elif kind == 8:
            path.unlink(missing_ok=True)
        os.utime(path.parent, None)
        if rng.random() < 0.7:
            changes = file.changes()
            rows = [*([] if changes.is_other else rows), *(row.values for row in changes.rows)]
            assert rows == ([row.values for row in read_jsonl(path)[0]] if path.exists() else [])
            assert not file.changes()


def test_the_index_equals_a_new_reading_while_two_processes_work(tmp_path: Path) -> None:
    rng, path = random.Random(1), tmp_path / "items.jsonl"
    write_jsonl(path, map(item, range(12)))
    projects = [RepairProject(load_work(path, "draft")) for _ in range(2)]
    for step in range(120):
        work, name = rng.choice(projects), rng.choice(["ada", "bob", "eve"])
        place = work.next(name, rng.randrange(-1, len(work.items)))
        if place is not None and rng.random() < 0.6:
            work.save(name, place, f"repair {step}") if rng.random() < 0.6 else work.skip(name, place)
        if step % 10 == 9:  # the file of the items changes
            ids = rng.sample(range(14), 12)
            write_jsonl(path, map(item, ids if rng.random() < 0.5 else sorted(ids)))
        again = RepairProject(load_work(path, "draft"))
        for project in projects:
            assert project.repairs() == again.repairs()
            assert [row["id"] for row in project.items] == [row["id"] for row in again.items]
            for person in ("ada", "bob", "eve"):
                assert project.progress(person) == again.progress(person)
    done = set(projects[0].repairs())
    progress = projects[0].progress("ada")
    assert progress.done == sum(row["id"] in done for row in projects[0].items)
    assert progress.done + progress.skipped + progress.remaining == len(projects[0].items)


def test_a_page_s_item_is_found_by_its_name_and_content(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    write_jsonl(path, map(item, range(3)))
    work = RepairProject(load_work(path, "draft"))
    shown = Shown.from_text(work.shown("ada", 2).to_text())
    assert work.place_of(shown, "ada") == 2
    write_jsonl(path, [item(7), *map(item, range(3))])
    with work.turn():
        assert work.place_of(shown, "ada") == 3
    for changed in (item(2, draft="answer 3"), item(2, question="!"), item(2, options=["a"]), item(2, answer="8")):
        write_jsonl(path, [changed])
        with work.turn(), pytest.raises(StaleError) as error:
            work.place_of(shown, "ada")
        assert error.value.place == 0
    write_jsonl(path, [item(2), item(0)])
    with work.turn():
        assert work.place_of(shown, "ada") == 0
        with pytest.raises(StaleError):
            work.place_of(shown, "bob")
    work.save("ada", 0, "answer 9")
    with work.turn(), pytest.raises(StaleError) as error:
        work.place_of(shown, "ada")
    assert (error.value.place, error.value.saved) == (0, "answer 9")
    path.write_text("no row\n")
    for _ in range(2):
        with pytest.raises(DataError, match="no row can be used"), work.turn():
            pass
    write_jsonl(path, [item(5)])
    with work.turn(), pytest.raises(StaleError) as error:
        work.place_of(shown, "ada")
    assert error.value.place is None


def seconds_of_a_turn(folder: Path, count: int) -> float:
    """Processor seconds of a turn of the page, the best of ten, in a project of `count` items that are nearly done."""
    folder.mkdir()
    path = folder / "items.jsonl"
    write_jsonl(path, map(item, range(count)))
    done = {"repaired": "answer 9", "annotator": "bob", "drafted_by": "m", "drafted": "answer 7"}
    write_jsonl(folder / "items.annotated.jsonl", (item(i, **done) for i in range(count - 50)))
    work, times = RepairProject(load_work(path, "draft")), []
    place = work.next("ada")
    work.corrections()
    for _ in range(10):
        start = time.process_time()
        assert place is not None
        with work.turn():
            work.save("ada", place, "answer 9", work.drafted.of(work.items[place]))
            place = work.next("ada", place)
            work.shown("ada", place)
            work.progress("ada")
            work.corrections(40)
        times.append(time.process_time() - start)
    return min(times)


def test_a_turn_takes_no_longer_with_two_hundred_times_as_many_items(tmp_path: Path) -> None:
    """The time of one is below the resolution of three; reading the file again would take 40 times as long."""
    few, many = (seconds_of_a_turn(tmp_path / str(count), count) for count in (100, 4000))
    assert many < 4 * few + 0.005
