"""Files named as modules that lie in the working folder are never executed, whatever process a command starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from difference_feedback.runs.folder import _commit
from difference_feedback.runs.safe_path import use_safe_path

LIBRARIES = (
    *("torch", "sympy", "math_verify", "sitecustomize", "usercustomize", "typer", "rich", "numpy", "PIL", "datasets"),
    *("transformers", "trl", "regex", "difference_feedback_plugins", "yaml", "jinja2", "pydantic", "rapidfuzz"),
    *("latex2sympy2_extended", "click", "filelock", "markupsafe", "pyarrow", "safetensors", "tokenizers"),
)


def modules() -> set[str]:
    """All but those that Python itself imports for `python -m`, before it looks for the package."""
    code = "import runpy, sys; print(*sys.modules)"
    started = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    return {*LIBRARIES, *sys.stdlib_module_names} - set(started.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder full of modules that leave a trace."""
    for name in modules():
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r} + chr(10))\n")
    rows = [
        {"id": i, "response": "The answer is $\\frac{1}{2}$", "answer": "0.5", "wrong": "a", "repaired": "b"}
        for i in (1, 2)
    ]
    rows = [row | {"question": "q", "image": "a.png"} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    return tmp_path


def executed(folder: Path) -> str:
    path = folder / "executed"
    return path.read_text() if path.is_file() else ""


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(sys.modules["difference_feedback"].__path__[0]).parent)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        words, cwd=folder, env=kept | {"PYTHONPATH": source} | environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "words",
    [
        ["grade", "rows.jsonl", "-o", "o.jsonl"],
        ["mask", "rows.jsonl", "-o", "o.jsonl", "--html", "o.html"],
    ],
)
def test_a_command_by_module_executes_none(folder: Path, words: list[str]) -> None:
    done = run(folder, sys.executable, "-m", "difference_feedback.cli", *words)
    assert done.returncode == 0, done.stderr
    assert executed(folder) == ""
    assert len((folder / "o.jsonl").read_text().splitlines()) == 2


def test_spawned_processes_execute_none(folder: Path) -> None:
    """As those of `bench`: the program is a script elsewhere, and its processes are spawned here."""
    script = folder / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import multiprocessing, sys\n"
        "from difference_feedback.runs.safe_path import use_safe_path\n"
        "def paths(_):\n"
        "    import json, struct, socket\n"
        "    return [json.__file__, *sys.path]\n"
        "if __name__ == '__main__':\n"
        "    use_safe_path()\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(*pool.map(paths, [0])[0], sep=chr(10))\n"
    )
    done = run(folder, sys.executable, str(script))
    assert done.returncode == 0, done.stderr
    assert executed(folder) == ""
    assert str(folder) not in done.stdout.splitlines()


def test_the_setting_reaches_children(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    use_safe_path()
    done = subprocess.run([sys.executable, "-c", "import json, sys; print(sys.path)"], cwd=folder, capture_output=True)
    assert done.returncode == 0
    assert executed(folder) == ""


def test_git_runs_no_program_of_a_repository_around_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "venv" / "package"
    here.mkdir(parents=True)
    (here / "folder.py").write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'executed'}\n")
    hook.chmod(0o755)
    for key in ("core.fsmonitor", "core.hooksPath", "core.pager", "diff.external"):
        subprocess.run(["git", "-C", str(tmp_path), "config", key, str(hook)], check=True)
    for track in (False, True):
        if track:
            subprocess.run(["git", "-C", str(tmp_path), "-c", "core.fsmonitor=false", "add", "-f", "."], check=True)
            (here / "folder.py").write_text("changed")
        monkeypatch.setattr("difference_feedback.runs.folder.__file__", str(here / "folder.py"))
        (tmp_path / "executed").unlink(missing_ok=True)
        _commit()
        assert not (tmp_path / "executed").exists()
