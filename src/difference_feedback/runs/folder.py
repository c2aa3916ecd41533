"""A run's folder: its recipe, the versions it ran with, its measurements, and how far it is.

config.yaml      the resolved recipe, every default spelled out
versions.json    Python, packages, commit, platform, processor cores, seed
metrics.jsonl    one row a measurement: {"step": ..., "cpu_seconds": ..., ...}
checkpoints/     checkpoint-<step>/ folders, as the trainer writes them; see `runs.checkpoints`
summary.json     the result; the run is finished once this file exists
.lock, .holder   which process is at work here; see `runs.lock`
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs import own_files
from difference_feedback.runs.checkpoints import SEAL, newest_whole, rows_of, seal, step_of
from difference_feedback.runs.first_rank import on_first_rank
from difference_feedback.runs.jsonl import JsonLines, read_rows, to_json, write_jsonl
from difference_feedback.runs.loading import dump_recipe
from difference_feedback.runs.lock import check_held, hold
from difference_feedback.runs.outputs import ESCAPE, remove_leftovers, write_atomically
from difference_feedback.runs.recipes import Recipe
from difference_feedback.runs.renamed import rename
from difference_feedback.runs.terminal import Terminal, echo
from difference_feedback.runs.yaml_text import read_yaml

PACKAGES = (
    "difference-feedback",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "rapidfuzz",
    "numpy",
)

SHARED = re.compile(r"(?:^|/)shared/\w+-[0-9a-f]+/model$")
"""The end of the path of a model that cells of a bench share. The hash is that of its recipe."""


class Run:
    """One run in its folder. `resumed`: it continues an interrupted run; `finished`: it is done.

    The first rank holds the folder against other processes until `close`, or as long as this object or the process
    lasts.
    """

    def __init__(self, folder: str | Path, recipe: Recipe, *, overwrite: bool = False) -> None:
        """Start a run in `folder`, or continue the interrupted run there. Where several ranks do, the first one writes.

        Raises `ConfigError` when the folder holds other files, or a run of another recipe, or another process works
        there. `overwrite` starts that run anew: its own files are removed, and no other. What people made of them is
        kept; see `runs.own_files`.
        """
        self.folder = Path(folder)
        self.recipe = recipe
        self._let_go: Callable[[], object] | None = None
        state = on_first_rank(lambda: self._open(overwrite))
        self.resumed: bool = state["resumed"]
        self.versions: dict[str, Any] = state["versions"]

    def close(self) -> None:
        """Let other processes work in the folder."""
        if self._let_go is not None:
            self._let_go()

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model_path(self) -> Path:
        return self.folder / "model"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def finished(self) -> bool:
        return (self.folder / "summary.json").is_file()

    def log(self, **values: Any) -> None:
        """Append one row to metrics.jsonl. Numbers that are not finite are written as null."""
        JsonLines(self.metrics_path).append(values)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, without a last row that was cut off."""
        return read_rows(self.metrics_path)

    def log_rows(self, source: str, rows: Sequence[Any], **values: Any) -> None:
        """Log a hash of the rows that the run reads from `source`, and `values`, unless they are in metrics.jsonl.

        All ranks make this call. Raises `DataError` where the run was interrupted, and had read other rows.
        """
        on_first_rank(lambda: self._log_rows(source, rows, values))

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint. All ranks make this call; the first one prints which newer ones are left out."""
        name = on_first_rank(self._last_checkpoint)
        return self.checkpoints / name if name else None

    def rewind(self, step: int) -> None:
        """Remove the metrics after `step`: a run resumed from there measures them again."""
        write_jsonl(self.metrics_path, [row for row in self.metrics() if row.get("step", 0) <= step])

    def rewind_to(self, checkpoint: Path | None) -> None:
        """Remove the metrics that were written after `checkpoint`, or all of them.

        Rows of the checkpoint's own step may be older or newer than it is. Its number of rows tells them apart.
        """
        if checkpoint is None:
            write_jsonl(self.metrics_path, [])
        elif (rows := rows_of(checkpoint)) is None:  # of the release before
            self.rewind(step_of(checkpoint))
            write_jsonl(self.metrics_path, [row for row in self.metrics() if "train_runtime" not in row])
        else:
            metrics = self.metrics()
            if len(metrics) < rows:
                _say(
                    f"{self.metrics_path} has {len(metrics)} of the {rows} rows that it had at {checkpoint.name}: the "
                    "others are lost, and the run goes on without them."
                )
            write_jsonl(self.metrics_path, metrics[:rows])

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json, which marks the run as finished. Raises as `write_atomically` and `check_held`."""
        check_held()
        path = self.folder / "summary.json"
        write_atomically(path, to_json(dict(summary), indent=2) + "\n")
        return path

    def summary(self) -> dict[str, Any]:
        """The result of a finished run. Raises `ConfigError` where it cannot be read."""
        path = self.folder / "summary.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            summary = None
        if not isinstance(summary, dict):
            raise ConfigError(
                f"{path} is cut off, or was changed by hand: put it back, or remove it, and the same command continues "
                "the run from its last checkpoint."
            )
        return summary

    def _log_rows(self, source: str, rows: Sequence[Any], values: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(to_json(rows).encode(errors=ESCAPE)).hexdigest()[:12]
        before = next((row for row in self.metrics() if row.get("kind") == "rows"), None)
        if before is None:
            self.log(step=0, kind="rows", rows=digest, **values)
        elif before.get("rows", digest) != digest:
            raise DataError(
                f"{source}: its rows have changed since the run in {self.folder} read them: put them back, give "
                "another --output, or --overwrite to start the run anew"
            )

    def _last_checkpoint(self) -> str | None:
        checkpoint, left_out = newest_whole(self.checkpoints)
        if left_out:
            instead = f"{checkpoint.name} is the newest whole one" if checkpoint else "none is whole: start again"
            _say(f"{self.checkpoints}: left out {'; '.join(left_out)}. {instead}.")
        if checkpoint and not (checkpoint / SEAL).is_file():  # killed just before it
            seal(checkpoint)
        return checkpoint.name if checkpoint else None

    def _open(self, overwrite: bool) -> dict[str, Any]:
        """Make or check the folder. Returns whether the run continues, and the versions that it runs with."""
        try:
            str(self.folder).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{self.folder}: this name is no UTF-8, and models cannot be saved below it: give another --output."
            ) from None
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file: give --output an empty or new folder.")
        if self.folder.is_dir() and not self._holds_run() and not self._is_empty():
            raise ConfigError(f"{self.folder} is not empty and holds no run: give --output an empty or new folder.")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: {error.strerror}: give --output a folder that can be made.") from None
        self._let_go = weakref.finalize(self, hold(self.folder).release)
        remove_leftovers(self.folder)
        if (self.folder / own_files.MARKER).is_file() or (overwrite and self._holds_run()):
            if kept := own_files.remove_run(self.folder):
                echo(f"What people made of the run before is kept in {kept}.", err=True)
            self.checkpoints.mkdir(exist_ok=True)
        before = self._recipe_before()
        resumed = before is not None
        if self.finished:
            self.summary()
        if resumed and not self.finished:  # a model that may be cut off; it is saved again
            shutil.rmtree(self.model_path, ignore_errors=True)
        if before != yaml.safe_load(dump_recipe(self.recipe)):  # a new run, or its models have moved with it
            write_atomically(self.folder / "config.yaml", dump_recipe(self.recipe))
        used = versions() | {"seed": self.recipe.seed}
        write_atomically(self.folder / "versions.json", to_json(used, indent=2) + "\n")
        (self.folder / own_files.MARKER).unlink(missing_ok=True)
        return {"resumed": resumed, "versions": used}

    def _holds_run(self) -> bool:
        return any((self.folder / name).is_file() for name in ("config.yaml", own_files.MARKER))

    def _is_empty(self) -> bool:
        """Whether the folder holds nothing but what a run leaves that was killed before it wrote its recipe."""
        return not any(self.checkpoints.glob("*")) and all(
            path.name in own_files.ALWAYS | own_files.START | {"checkpoints"}
            or own_files.LEFTOVER.fullmatch(path.name)
            or own_files.LOGS.fullmatch(path.name)
            for path in self.folder.iterdir()
        )

    def _recipe_before(self) -> dict[str, Any] | None:
        """The values of the run that is in the folder, by today's names; None where there is none."""
        path = self.folder / "config.yaml"
        if not path.is_file() or self._is_empty():  # a recipe that was refused at once may be corrected in place
            return None
        before = read_yaml(path)
        if not isinstance(before, dict) or "kind" not in before:
            raise ConfigError(
                f"{path} is empty, cut off, or no recipe: put it back, give another --output, or --overwrite to start "
                "the run anew."
            )
        before = rename(str(before["kind"]), before, str(path), quiet=True)  # it may be of the release before
        now = yaml.safe_load(dump_recipe(self.recipe))
        different = [text for key, text in _differences(before, now) if key not in self.recipe.changeable]
        if different:
            state = "a finished run" if self.finished else "an unfinished run"
            raise ConfigError(
                f"{self.folder} holds {state} of another recipe ({'; '.join(different[:5])}): "
                "give another --output, or --overwrite to start it anew."
            )
        return before


def versions() -> dict[str, Any]:
    """Versions of Python and the packages, the commit and the machine. No package is imported."""
    used: dict[str, Any] = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }
    for package in PACKAGES:
        try:
            used[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            used[package] = None
    return used | {"commit": _commit()}


@cache
def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed one."""
    here = Path(__file__)
    # The settings of a repository around this package, as around an environment in it, may name programs. Optional
    # locks would outlast a kill.
    settings = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    git = ["git", "--no-optional-locks", *settings, "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True, timeout=10)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=10)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() + ("-changed" if changed.stdout.strip() else "")


def _say(text: str) -> None:
    Terminal(stderr=True, emoji=False, soft_wrap=True, highlight=False).print(text, markup=False)


def _differences(before: Any, now: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """The keys whose values differ, each with a text that says how."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in before if name not in now)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now and not _is_same_place(before, now):
        yield key, f"{key}: {before!r} there, {now!r} now"


def _is_same_place(before: Any, now: Any) -> bool:
    """Whether two paths lead to one file or folder, or to one model of a bench that was moved."""
    if not (isinstance(before, str) and isinstance(now, str)):
        return False
    shared = [SHARED.search(path) for path in (before, now)]
    if all(shared):
        return shared[0][0] == shared[1][0]  # type: ignore[index]
    try:
        return os.path.samefile(before, now)
    except (OSError, ValueError):
        return False
