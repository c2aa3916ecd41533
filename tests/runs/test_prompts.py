"""The texts that a recipe puts around a question: LaTeX's braces stay, and a file is as good as a text."""

from pathlib import Path

import pytest

from difference_feedback.runs.prompts import prompt_form

QUESTION = "Which {set} is it? <image>\nA. {question}\nB. {{ content }}"


def test_without_keys_the_instruction_follows_the_question() -> None:
    form = prompt_form(None)
    assert form.system is None
    assert form.question(QUESTION, "Put it in \\boxed{}.") == f"{QUESTION}\nPut it in \\boxed{{}}."
    assert form.question(QUESTION) == QUESTION


@pytest.mark.parametrize("kind", ["text", "text file", "template"])
def test_a_format_prompt_replaces_the_instruction_and_leaves_braces_alone(kind: str, tmp_path: Path) -> None:
    text = "{question} First think in <think> </think>, then answer in \\boxed{} or {x}."
    wanted = text.replace("{question}", QUESTION, 1)
    value = text
    if kind == "text file":
        (tmp_path / "format.txt").write_text(text + "\n")
        value = str(tmp_path / "format.txt")
    elif kind == "template":
        (tmp_path / "format.jinja").write_text(text.replace("{question}", "{{ content | trim }}"))
        value = str(tmp_path / "format.jinja")
    form = prompt_form(None, value)
    assert form.question(QUESTION, "Instruction.") == wanted


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    path = tmp_path / "format.jinja"
    path.write_text("{{ content }}{{ ''.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="format_prompt"):
        prompt_form(None, str(path)).question("?")


def test_a_system_prompt_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "system.md").write_text("You look closely.\n")
    monkeypatch.chdir(tmp_path)
    assert prompt_form("system.md").system == "You look closely." == prompt_form("You look closely.").system
