"""What is printed cannot steer a terminal."""

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import track
from rich.table import Table
from rich.text import Text

import difference_feedback
from difference_feedback.runs.jsonl import RowProblem, print_problems
from difference_feedback.runs.terminal import Terminal, echo, printable

ATTACK = "name\x1b]0;title\x07\x1b[2J\x1b[31m\r\b\x9b1m\u202egnp.\u2066\x00\x7f\ud83d\ufeff\U000e0041"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_a_printable_text_has_no_control_and_the_rest_as_it_was(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", shown)
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text
    assert re.sub(r"\\(x..|u....|U.{8})", lambda m: chr(int(m[1][1:], 16)), shown.replace("\\\\", "\\")) or not text


def test_joined_emoji_scripts_and_lines_stay() -> None:
    for text in ("a\n\tb", "👩\u200d🔬", "क\u200dष", "שלום", "日本", "é"):
        assert printable(text) == text


def test_every_way_to_print_is_escaped() -> None:
    file = io.StringIO()
    console = Terminal(file=file, emoji=False, soft_wrap=True)
    console.print(ATTACK, markup=False, highlight=False)
    console.print("Error:", style="bold red", end=" ")
    console.print(f"[bold]{ATTACK.replace('[', '')}[/]", Text(ATTACK))
    print_problems([RowProblem(1, ATTACK, ATTACK)], console)
    table = Table(ATTACK, title=Text(ATTACK))
    table.add_row(ATTACK)
    console.print(table)
    for _ in track([1], ATTACK, console=console):
        pass
    text = file.getvalue()
    text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\ufeff\ud83d]", text)
    assert "\\x1b]0;title\\x07\\x1b[2J" in text


def test_all_of_the_package_prints_by_this_console() -> None:
    root = Path(difference_feedback.__file__).parent
    sources = [path for path in root.rglob("*.py") if path.name != "terminal.py"]
    others = r"(?<!\w)Console\(|typer\.echo\("
    assert [path.name for path in sources if re.search(others, path.read_text(encoding="utf-8"))] == []


def test_a_line_of_a_command_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for err in (False, True):
        echo(Path(ATTACK.replace("\0", "")), err)
    said = capsys.readouterr()
    assert said.out == said.err == printable(ATTACK.replace("\0", "")) + "\n"
