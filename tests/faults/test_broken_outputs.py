"""Every command against every broken output, full disk, closed stream and user without a home: one sentence each."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.runs.outputs import explain, refusal

pytestmark = pytest.mark.faults

SMALL = ["trl.max_steps=2", "trl.save_steps=1", "trl.per_device_train_batch_size=8"]
TRAIN = ["nano_grpo", "problems=8", "evaluation.problems=6", "evaluation.every=0", "trl.num_generations=4", *SMALL]
SFT = ["nano_repair_sft", "drafts=8", "evaluation.problems=6", *SMALL]
BASE = ["nano_base", "steps=1", "caption_steps=1", "upper_bound_steps=0", "batch_size=4", "evaluation.problems=6"]
EVALUATE = ["nano_evaluate", "evaluation.problems=12"]
PLAN = """
kind: bench
seeds: [0]
budget_cpu_seconds: 300
evaluation: {problems: 6, every: 0}
methods:
  base: {label: base, kind: base}
"""
WRITE_FILES = {
    "grade": ["grade", "rows.jsonl", "-o"],
    "mask": ["mask", "pairs.jsonl", "-o"],
    "mask --html": ["mask", "pairs.jsonl", "--html"],
    "report": ["report", "run", "-o"],
    "data check": ["data", "check", "questions.jsonl", "--html"],
    "annotate": ["annotate", "items.jsonl", "-o"],
}
WRITE_FOLDERS = {
    "train": ["train", *TRAIN, "-o"],
    "repair sft": ["repair", "sft", *SFT, "-o"],
    "repair rl": ["repair", "rl", "nano_repair_rl", "model=nano", "-o"],
    "base": ["base", *BASE, "-o"],
    "evaluate": ["evaluate", *EVALUATE, "-o"],
    "benchmarks": ["evaluate", "nano", "mathvista", "-o"],
    "bench": ["bench", "plan.yaml", "-o"],
    "demo": ["demo", "-o"],
    "repair collect": ["repair", "collect", "questions.jsonl", "-r", "responses.jsonl", "-o"],
}
COMMANDS = WRITE_FILES | WRITE_FOLDERS


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an input of each kind, and places where nothing can be written."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "red").save("red.png")
    item = {"id": "a", "question": "What colour?", "image": "red.png"}
    texts = [f"I look at the picture for a while. The answer is {colour}." for colour in ("red", "blue")]
    rows: dict[str, list[dict[str, Any]]] = {
        "rows": [{"response": "The answer is 3.", "answer": "3"}],
        "pairs": [{"id": "a", "wrong": "it is 3", "repaired": "it is 4"}],
        "questions": [item | {"answer": "red"}],
        "items": [item | {"draft": texts[1]}],
        "responses": [{"id": "a", "response": text} for text in texts],
    }
    for name, values in rows.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    Path("run").mkdir()
    Path("plan.yaml").write_text(PLAN)
    Path("circle").symlink_to("circle")
    return tmp_path


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


BROKEN = {
    "below a file": "rows.jsonl/new",
    "too long": "x" * 300,
    "a circle of links": "circle/new",
    "a NUL": "a\0b",
    "empty": "",
    "no place for files": "/sys/new",
}


@pytest.mark.parametrize("place", BROKEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_output_is_refused_before_anything_else(inputs: Path, command: str, place: str) -> None:
    if place == "no place for files" and not Path("/sys/kernel").is_dir():
        pytest.skip("left out: no /sys here")
    before = sorted(inputs.rglob("*"))
    error = refused(*COMMANDS[command], BROKEN[place])
    assert "--html" in error or "--output" in error or "-o" in error
    assert BROKEN[place].replace("\0", "\\x00") in error
    assert sorted(inputs.rglob("*")) == before, "nothing was begun"


@pytest.mark.parametrize("command", WRITE_FILES)
def test_a_folder_is_no_file(inputs: Path, command: str) -> None:
    Path("folder").mkdir()
    assert "folder" in refused(*WRITE_FILES[command], "folder")


@pytest.mark.parametrize("place", ["rows.jsonl", "/dev/null", "/dev/stdout"])
@pytest.mark.parametrize("command", WRITE_FOLDERS)
def test_a_file_or_a_device_is_no_folder(inputs: Path, command: str, place: str) -> None:
    kind = os.stat(place).st_mode
    assert place in refused(*WRITE_FOLDERS[command], place)
    assert os.stat(place).st_mode == kind


@contextlib.contextmanager
def sizes_up_to(limit: int) -> Iterator[None]:
    """No file may grow over `limit` bytes, as if the disk were full there. Processes started meanwhile inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        ("train", 1_000_000),  # in the first checkpoint
        ("repair sft", 1_000_000),
        ("base", 1_000_000),  # in the model
        ("evaluate", 1_000),  # in predictions.jsonl
        ("repair collect", 100),
    ],
)
def test_a_disk_that_is_full_ends_in_a_sentence_and_the_same_command_goes_on(
    inputs: Path, command: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difference_feedback.runs.outputs._try", lambda folder: None)  # it looked full enough before
    words = [*COMMANDS[command], "out"]
    with sizes_up_to(limit):
        error = refused(*words)
    assert "out" in error
    assert "disk" in error
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", ["grade", "mask", "report", "data check"])
def test_a_file_that_was_not_written_leaves_the_old_one(inputs: Path, command: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", *EVALUATE, "-o", "run"]) if command == "report" else None
    assert not result or result.exit_code == 0
    Path("out").write_text("old")
    before = set(inputs.iterdir())
    with sizes_up_to(50):
        refused(*COMMANDS[command], "out")
    assert Path("out").read_text() == "old"
    assert {path for path in set(inputs.iterdir()) - before if path.name.endswith("partial")} == set()


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "difference_feedback.cli", *map(str, words)]
    options = {"capture_output": True} | options
    return subprocess.run(command, text=True, timeout=60, check=False, **options)


def closing(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def test_printed_rows_are_all_that_is_printed(inputs: Path) -> None:
    for name in ("-", "/dev/stdout"):
        done = run("grade", "rows.jsonl", "-o", name)
        assert (done.returncode, json.loads(done.stdout)["correct"]) == (0, True)
        assert "1 graded" in done.stderr
    with Path("to").open("w") as file:  # a plain file behind the standard output, as by the shell's >
        assert run("mask", "pairs.jsonl", "-o", "/dev/stdout", capture_output=False, stdout=file).returncode == 0
    assert json.loads(Path("to").read_text())["distance"] == 1


def test_a_full_standard_output_is_told(inputs: Path) -> None:
    for words in (["rows.jsonl"], ["rows.jsonl", "-o", "-"]):
        with open("/dev/full", "w") as full:
            done = run("grade", *words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 + ("1 graded" in done.stderr), done.stderr
        assert "No space left on device" in done.stderr


def test_a_reader_that_has_ended_is_told(inputs: Path) -> None:
    source, end = os.pipe()
    os.close(source)
    done = run("grade", "rows.jsonl", "-o", "-", capture_output=False, stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    assert done.returncode == 2
    assert "Broken pipe" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_closed_streams_harm_no_file(inputs: Path) -> None:
    for number, code in ((0, 0), (1, 2), (2, 0)):
        options: dict[str, Any] = {"preexec_fn": closing(number), "capture_output": False}
        options |= {name: subprocess.PIPE for name, other in (("stdout", 1), ("stderr", 2)) if other != number}
        done = run("grade", "rows.jsonl", "-o", f"out{number}", **options)
        assert done.returncode == code
        assert Path(f"out{number}").is_file() == (code == 0)
        if code == 0:
            assert Path(f"out{number}").read_text().count("\n") == 1
        else:
            assert "standard output is closed" in done.stderr


def test_temporary_files_without_room_name_tmpdir(inputs: Path) -> None:
    import gzip

    with gzip.open("big.csv.gz", "wt") as file:
        file.write("question,answer\n" + "".join(f"How much is {i}?,{i}\n" for i in range(3000)))
    with sizes_up_to(10_000):
        error = refused("data", "check", "big.csv.gz")
    assert "difference-feedback-" in error
    assert "TMPDIR" in error


def test_a_user_without_a_name_or_a_home_can_work(inputs: Path) -> None:
    """As in a container that is started with a number for its user."""
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("left out: only a superuser can become somebody whom the system does not know")
    may = "-all,+dac_read_search"  # it reads this environment, and writes nowhere
    unknown = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", f"--inh-caps={may}"]
    unknown += [
        f"--ambient-caps={may}",
        f"--bounding-set={may}",
        "env",
        "-i",
        "HOME=/nonexistent",
        "TMPDIR=/nonexistent",
    ]
    unknown += [f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS=1"]
    command = [*unknown, sys.executable, "-m", "difference_feedback.cli", "evaluate", *EVALUATE, "-o"]
    done = subprocess.run([*command, "closed"], capture_output=True, text=True, check=False)
    if "setpriv" in done.stderr:
        pytest.skip(f"left out: {done.stderr.strip()}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "closed: Permission denied" in done.stderr
    Path("open").mkdir()
    Path("open").chmod(0o777)
    done = subprocess.run([*command, "open"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_refusal_of_the_system_is_known_whatever_library_raises_it(tmp_path: Path) -> None:
    """Each error is the library's own, raised here by a limit on the size of files."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def caught(write: Callable[[], object]) -> BaseException:
        try:
            write()
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    tensors = {"x": torch.zeros(100_000)}
    with sizes_up_to(4096):
        errors = [
            caught(lambda: save_file(tensors, tmp_path / "a.safetensors")),
            caught(lambda: torch.save(tensors, tmp_path / "a.pt")),
        ]
    assert isinstance(errors[0], SafetensorError)
    for error in errors:
        assert "disk" in explain(refusal(error), "run")
