"""The command line as a user meets it: help that answers at once, errors without a traceback, runs that finish."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from difference_feedback import __version__
from difference_feedback.cli import app

COMMANDS = ("demo", "base", "repair", "train", "evaluate", "mask", "report", "bench")
runner = CliRunner()


def run(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_help_shows_the_commands_in_the_method_s_order() -> None:
    code, text = run("--help")
    assert code == 0
    places = [text.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "command", [*[(name,) for name in COMMANDS], ("repair", "sft"), ("repair", "rl"), ("repair", "check")]
)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    code, text = run(*command, "--help")
    assert code == 0
    if command != ("repair",):
        assert f"difference-feedback {' '.join(command)}" in " ".join(text.split())


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom difference_feedback.cli import app\n"
        "try:\n    app(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 5, "it takes a third of a second on an idle machine"


def test_version() -> None:
    assert run("--version") == (0, f"difference-feedback {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "modle=x"], "override 'modle=x' ... 'modle' ... 'model'"),
        (["train", "nano_grpoo"], "Did you mean 'nano_grpo'?"),
        (["train", "demo"], "kind is 'bench' ... `kind: train`"),
        (["evaluate", "evaluation.problems=many"], "evaluation.problems ... 'many' (text) ... integer"),
        (["train", "nano_grpo", "repair_model=x"], "method grpo repairs nothing"),
        (["train", "nano_df_grpo", "repair_model=nano", "trl.learning_rat=1"], "Did you mean 'learning_rate'?"),
        (["train", "nano_df_grpo", "repair_model=nano", "trl.loss_type=bnpo"], "loss_type='bnpo'"),
        (["train", "nano_grpo", "trl.loss_type=dapo"], "choose the objective"),
        (["train", "nano_grpo", "objective=gsop"], "objective: got 'gsop' (text), wanted"),
        (["train", "nano_df_grpo", "repair_model=nano", "trl.use_liger_kernel=true"], "leave it off"),
        (["report", "nothing/there"], "holds no run"),
        (["bench", "bench_fair", "methods.grpo.recip=x"], "'methods.grpo.recip' ... Did you mean 'recipe'?"),
        (["evaluate", "data=q.jsonl"], "data: got 'q.jsonl' (text), wanted a mapping, for example data.path="),
        (["evaluate", "data.path=q.jsonl", "reward=my.py:x"], "my.py:x: "),
    ],
)
def test_a_mistake_ends_in_one_clean_message(tmp_path: Path, arguments: list[str], says: str) -> None:
    if arguments[0] in ("train", "evaluate"):
        arguments = [*arguments, "--output", str(tmp_path / "run")]
    code, text = run(*arguments)
    assert code == 2
    assert "Traceback" not in text
    assert all(part in text for part in says.split(" ... "))


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--debug", "report", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no run" in str(result.exception)


def test_the_console_script_reports_errors_on_standard_error(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("difference-feedback")
    done = subprocess.run(
        [script, "report", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_evaluate_then_report(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("evaluate", "evaluation.problems=12", "evaluation.batch_size=6", "--output", folder)
    code, text = run(*arguments)
    assert code == 0, text
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["problems"] == 12
    assert set(summary["tasks"]) == {"digits-sum", "digits-max", "grid-lookup", "count", "chart", "order"}
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert sum(row["correct"] for row in predictions) / 12 == summary["accuracy"]
    assert "12 held-out problems" in text
    code, again = run(*arguments)
    assert code == 0
    assert "finished already" in again
    code, text = run("report", folder)
    assert code == 0
    assert Path(text.strip()) == folder / "report.html"
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("command", [["train", "nano_grpo"], ["repair", "sft", "nano_repair_sft"]])
def test_a_misspelt_setting_of_trl_leaves_no_folder(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "trl.max_step=2", "--output", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "'max_step'" in result.output
    assert "'max_steps'" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["grade", "mask"])
def test_the_standard_output_has_the_rows_alone(tmp_path: Path, command: str) -> None:
    rows = {"response": "The answer is 3.", "answer": "3", "id": "a", "wrong": "it is 3", "repaired": "it is 4"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows) + "\n")
    result = runner.invoke(app, [command, str(path), "-o", "-"])
    assert result.exit_code == 0
    assert isinstance(json.loads(result.stdout), dict)
    assert result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_an_input_without_a_folder_needs_a_named_output() -> None:
    source, end = os.pipe()
    os.write(end, b'{"response": "The answer is 3.", "answer": "3"}\n')
    os.close(end)
    code, text = run("grade", f"/proc/self/fd/{source}")
    assert code == 2
    assert "--output" in text
    result = runner.invoke(app, ["grade", f"/proc/self/fd/{source}", "-o", "-"])
    assert json.loads(result.stdout)["correct"] is True
    os.close(source)


def test_a_fault_of_the_program_keeps_its_traceback_and_names_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr("difference_feedback.policy.evaluation.evaluate_recipe", fault)
    result = runner.invoke(app, ["evaluate", "evaluation.problems=6", "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, TypeError)
    (note,) = result.exception.__notes__
    assert str(tmp_path / "run") in note
