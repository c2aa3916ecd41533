"""Rows with numbers and depths that few programs write: each is used, or listed with the remedy."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from difference_feedback.cli import app

ROW = {"question": "How many?", "response": "The answer is 5", "answer": "5", "wrong": "a b", "repaired": "a c"}
DEEP = ["x"]
for _ in range(400):
    DEEP = [DEEP]  # type: ignore[list-item]


@pytest.mark.parametrize("command", [["grade"], ["mask"], ["data", "check"]], ids=" ".join)
def test_numbers_beyond_a_float_are_read_and_endless_depths_listed(tmp_path: Path, command: list[str]) -> None:
    rows = [ROW | {"id": 0}, ROW | {"id": 10**400}, ROW | {"id": 1, "answer": -(10**400)}, ROW | {"metadata": DEEP}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    for name in ("rows.jsonl", "rows.json") if command[0] == "data" else ("rows.jsonl",):
        output = [] if command[0] == "data" else ["-o", str(tmp_path / "out.jsonl")]
        done = CliRunner().invoke(app, [*command, str(tmp_path / name), *output])
        assert isinstance(done.exception, SystemExit | None), done.exception
        assert "line 4: lists and objects stand more than 50 deep in it" in done.output
        assert done.output.count("line ") == 1
