"""Run folders whose files hold what no command writes: the report is made, or one sentence names the file."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.report.page import write_report

pytestmark = pytest.mark.faults

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SIDE = {
    "tokens": ["a ", "b"],
    "mask": [True, False],
    "advantages": [0.1, -0.2],
    "advantage": 0.5,
    "roots": [True, True],
}
TERMS = {"base": 1.0, "answers": 8, "p_err": 0.5, "repaired": 4, "num_repairs": 1, "repair": 0.5, "measured": 2.0}
AUDIT = {"judged": 4, "outages": 1, "hits": {"copy": 1}, "hit_rate": 0.2, "hit_rate_interval": [0.1, 0.3]}
SUMMARY = {
    "method": "df-grpo",
    "accuracy": 0.5,
    "interval": [0.4, 0.6],
    "cpu_seconds": 1.0,
    "gpu_seconds": 2.0,
    "tasks": {"t": 0.5},
    "steps": 3,
    "base_accuracy": 0.2,
    "cost": {"cpu": TERMS},
    "factors": {"reward_without_factors": 0.4, "visual_kept": 0.5, "audit": AUDIT},
    "before": {"name": "start", "accuracy_at_1": 0.3, "edit_cost": 0.2},
    "after": {"name": "x", "accuracy_at_1": 0.3, "audit_survival": 0.2, "edit_cost": 0.4},
}
FILES: dict[str, Any] = {
    "config.yaml": {"kind": "train", "model": "m", "methods": {"g": {"kind": "train"}, "b": {"kind": "base"}}},
    "summary.json": SUMMARY,
    "examples.jsonl": [
        {"id": "1", "question": "q", "images": [f"data:image/png;base64,{PIXEL}"], "wrong": SIDE, "repair": SIDE}
    ],
    "metrics.jsonl": [
        {"step": 1, "reward": 0.2, "accuracy": 0.1, "cpu_seconds": 1.0, "interval": [0.0, 1.0]},
        {"step": 2, "reward": 0.3, "accuracy": 0.2, "cpu_seconds": 2.0},
    ],
    "audits.jsonl": [{"id": "a", "verdict": "clean"}],
    "reviews.jsonl": [{"id": "a", "annotator": "x", "verdict": "clean"}],
    "versions.json": {"python": "3.11"},
    "results.jsonl": [{"hash": "abc", "method": "g", "label": "l", "settings": {"a.b": 1}, "accuracy": 0.5}],
}
MARK = "<script>alert(1)</script>"
VALUES = ("\ud83d", 10**400, float("nan"), float("inf"), None, [], {}, -1, True, [[1]], {MARK: {MARK: 1}}, 1e308, MARK)
RAW = (b"", b"\xff\xfe", b"null", b"[" * 100_000, b'{"a":1,"a":2}', b'{"id": ' + b"9" * 5000 + b"}", b"\0\0", b'"x"')


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all values within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def replaced(value: Any, place: tuple[str | int, ...], other: Any) -> Any:
    value = inner = copy.deepcopy(value)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = other
    return value


def text_of(value: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in value) if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:.*cannot be read; left out")
def test_a_value_of_a_wrong_kind_never_ends_in_a_traceback(tmp_path: Path, name: str) -> None:
    for other, value in FILES.items():
        (tmp_path / other).write_text(text_of(value))
    (tmp_path / "summary.json").write_text(text_of(SUMMARY | {"accuracy": None}) if name == "metrics.jsonl" else "{}")
    texts = [text_of(replaced(FILES[name], place, value)).encode() for place in places(FILES[name]) for value in VALUES]
    drawn, refused = 0, list[str]()
    for text in [text_of(FILES[name]).encode(), *texts, *RAW]:
        (tmp_path / name).write_bytes(text)
        try:
            page = write_report(tmp_path).read_text()
        except DifferenceFeedbackError as error:
            refused.append(str(error))
            continue
        drawn += 1
        assert MARK not in page
        assert name == "versions.json" or not {"nan", "inf"} & set(page.replace('"', " ").replace(">", " ").split())
    assert drawn
    assert all(name in text for text in refused)
