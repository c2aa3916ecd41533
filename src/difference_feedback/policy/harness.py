"""The benchmark harness lmms-eval, in the environment that it needs for itself, as a process beside this one.

It has the tasks, their data, their prompts and their scores. It never holds the model: `policy.benchmarks` answers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from difference_feedback.errors import ConfigError, DataError, DifferenceFeedbackError
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.policy import harness_worker
from difference_feedback.runs.packages import is_installed
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.serving import without_launcher

PYTHON = "DIFFERENCE_FEEDBACK_HARNESS"
"""The environment variable that names the harness's Python."""
FOLDER = ".venv-harness"
VERSION = "0.7.3"
BESIDE = ("Levenshtein", "'filelock<4'")
"""What this version needs besides, and does not say."""
_VERSION_OF = "import importlib.metadata as m; print(m.version('lmms-eval'))"
_NOWHERE = "http://127.0.0.1:9/v1"
_OF_JUDGES = ("OPENAI_", "AZURE_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "DASHSCOPE_", "AWS_", "LOCAL_LLM_")


def find_harness(python: str | None = None) -> tuple[str, str]:
    """The Python that has lmms-eval, and its version: `python`, the variable's, `.venv-harness`'s here, or our own.

    Raises `ConfigError` where there is none.
    """
    source = "--harness" if python else PYTHON
    python = python or os.environ.get(PYTHON)
    if python is None:
        source, python = "lmms-eval", str(Path(FOLDER) / "bin" / "python")
        if not Path(python).is_file() and is_installed("lmms_eval"):
            python = sys.executable
    path = Path(python).expanduser()
    path = path / "bin" / "python" if path.is_dir() else path
    try:
        done = subprocess.run([path, "-I", "-c", _VERSION_OF], capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        raise ConfigError(f"{source}: there is no {path}. {_install()}") from None
    except (OSError, subprocess.SubprocessError):
        done = None
    version = done.stdout.strip() if done else ""
    if not version:
        raise ConfigError(f"{source}: {path} has no lmms-eval. {_install()}")
    return str(path.absolute()), version


def _install() -> str:
    return (
        "Benchmarks run through lmms-eval, in an environment of its own: "
        f"python -m venv {FOLDER} && {FOLDER}/bin/pip install lmms-eval=={VERSION} {' '.join(BESIDE)}; "
        "or name a Python that has it with --harness."
    )


class Harness:
    """A running harness. `judge` is the only server that it may ask; what it prints is appended to `log`."""

    def __init__(self, python: str, log: Path, judge: Endpoint | None = None) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            # The worker ends when its standard input closes, so also when this process is killed.
            self._process = subprocess.Popen(
                [python, "-I", harness_worker.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=harness_environment(os.environ, judge),
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        self._send({"judge": judge.url if judge else None})

    def __enter__(self) -> "Harness":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """The worker's answer; see `policy.harness_worker`.

        Raises:
            ConfigError: a task that does not exist or cannot be run, or a package that the harness lacks.
            DataError: a task's data cannot be loaded.
            DifferenceFeedbackError: the harness ended. The end of its log is in the message.
        """
        self._send({"do": do} | values)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DifferenceFeedbackError(self._describe_end())
        answer: dict[str, Any] = json.loads(line)
        if answer.get("refused") == "tasks":
            raise ConfigError(f"tasks: {answer['why']}.")
        if answer.get("refused") == "harness":
            raise ConfigError(
                f"{values['task']}: the harness's environment lacks a part ({answer['why']}). {_install()}"
            )
        if answer.get("refused") == "data":
            task = values["task"]
            raise DataError(
                f"{task}: {answer['why']}. Give a local copy of the task's data: --task-data {task}=FOLDER."
            )
        return answer

    def _send(self, values: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(values) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise DifferenceFeedbackError(self._describe_end()) from None

    def _describe_end(self) -> str:
        status = self._process.wait()
        tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        return f"The harness ended with exit status {status}. The end of {self.log}:\n{tail}"


def check_judge(judge: Endpoint) -> None:
    """Raise `ConfigError` where the judge refuses a question, for its url, its model or its key.

    A judge that gives no answer for another reason may do so later.
    """
    once = judge.model_copy(update={"cache": None, "retries": 0})
    [answer] = ChatClient(once).ask([ChatRequest([{"role": "user", "content": "Is 2 more than 1? Answer yes or no."}])])
    if answer.error and re.match(r"HTTP 40[0134]\b", answer.error):
        raise ConfigError(
            f"judge: {judge.url}: {judge.model} answers no question ({answer.error}): correct judge.url, "
            "judge.model or judge.api_key_env."
        )


def harness_environment(environment: Mapping[str, str], judge: Endpoint | None) -> dict[str, str]:
    """The harness's environment: no GPU, nothing of a launcher, and no server or key for judges but that of `judge`."""
    kept = {
        name: value
        for name, value in without_launcher(environment).items()
        if not name.startswith(_OF_JUDGES) and name not in ("API_TYPE", "MODEL_VERSION", "LMMS_EVAL_PLUGINS")
    }
    key = environment.get(judge.api_key_env or "") if judge else None
    without_proxy = environment.get("no_proxy") or environment.get("NO_PROXY")
    here = ",".join(filter(None, [without_proxy, "127.0.0.1,localhost"]))
    return kept | {
        "API_TYPE": "openai",
        "OPENAI_API_URL": judge.url if judge else _NOWHERE,
        "OPENAI_BASE_URL": judge.url if judge else _NOWHERE,
        # Without a key, tasks would not even try to ask their judge, and take the answer for wrong.
        "OPENAI_API_KEY": key or "none",
        "MODEL_VERSION": judge.model if judge else "none",
        "CUDA_VISIBLE_DEVICES": "",
        "NO_PROXY": here,
        "no_proxy": here,
        "TOKENIZERS_PARALLELISM": "false",
    }
