"""A run's folder: its recipe, the versions it ran with, its measurements, and how far it is.

config.yaml      the resolved recipe, every default spelled out
versions.json    Python, packages, commit, platform, processor cores, seed
metrics.jsonl    one row a measurement: {"step": ..., "cpu_seconds": ..., ...}
checkpoints/     checkpoint-<step>/ folders, as the trainer writes them
summary.json     the result; the run is finished once this file exists
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from difference_feedback.errors import ConfigError
from difference_feedback.runs.first_rank import on_first_rank
from difference_feedback.runs.jsonl import JsonLines, read_rows, to_json, write_atomically, write_jsonl
from difference_feedback.runs.loading import dump_recipe
from difference_feedback.runs.recipes import Recipe
from difference_feedback.runs.renamed import rename
from difference_feedback.runs.yaml_text import parse_yaml

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
OWN_FOLDERS = {"benchmarks", "cells", "checkpoints", "images", "model", "shared", "submissions", "validation"}
OWN_FILES = {
    "answers.jsonl",
    "answers.jsonl.lock",
    "config.yaml",
    "examples.jsonl",
    "hub.json",
    "metrics.jsonl",
    "metrics.jsonl.lock",
    "oracle_repairs.jsonl",
    "predictions.jsonl",
    "report.html",
    "requests.jsonl",
    "results.jsonl",
    "results.jsonl.lock",
    "summary.json",
    "test.parquet",
    "train.parquet",
    "verl.log",
    "verl_metrics.jsonl",
    "versions.json",
    "vllm_audit.log",
    "vllm_evaluation.log",
    "vllm_judge.log",
    "vllm_repairs.log",
}


class Run:
    """One run in its folder. `resumed`: it continues an interrupted run; `finished`: it is done."""

    def __init__(self, folder: str | Path, recipe: Recipe, *, overwrite: bool = False) -> None:
        """Start a run in `folder`, or continue the interrupted run there. Where several ranks do, the first one writes.

        Raises `ConfigError` when the folder holds other files, or a run of another recipe. `overwrite` starts that run
        anew: its own files are removed, and no other.
        """
        self.folder = Path(folder)
        self.recipe = recipe
        state = on_first_rank(lambda: self._open(overwrite))
        self.resumed: bool = state["resumed"]
        self.versions: dict[str, Any] = state["versions"]

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

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint (the trainer writes its state file last)."""
        complete = [p for p in self.checkpoints.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
        return max(complete, key=step_of, default=None)

    def rewind(self, step: int) -> None:
        """Remove the metrics after `step`: a run resumed from a checkpoint measures them again."""
        write_jsonl(self.metrics_path, [row for row in self.metrics() if row.get("step", 0) <= step])

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json, which marks the run as finished."""
        path = self.folder / "summary.json"
        write_atomically(path, to_json(dict(summary), indent=2) + "\n")
        return path

    def summary(self) -> dict[str, Any]:
        """The result of a finished run."""
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    def _open(self, overwrite: bool) -> dict[str, Any]:
        """Make or check the folder. Returns whether the run continues, and the versions that it runs with."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file: give --output an empty or new folder.")
        resumed = False
        if overwrite and (self.folder / "config.yaml").is_file():
            self._remove()
        else:
            resumed = self._is_same_run()
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: {error.strerror}: give --output a folder that can be made.") from None
        if not resumed:
            write_atomically(self.folder / "config.yaml", dump_recipe(self.recipe))
        used = versions() | {"seed": self.recipe.seed}
        write_atomically(self.folder / "versions.json", to_json(used, indent=2) + "\n")
        return {"resumed": resumed, "versions": used}

    def _is_same_run(self) -> bool:
        path = self.folder / "config.yaml"
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ConfigError(f"{self.folder} is not empty and holds no run: give --output an empty or new folder.")
            return False
        if not self._has_begun():
            return False
        before = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        if isinstance(before, dict):  # it may have been written by the release before
            before = rename(str(before.get("kind")), before, str(path), quiet=True)
        now = yaml.safe_load(dump_recipe(self.recipe))
        different = list(_differences(before, now))
        if different:
            state = "a finished run" if self.finished else "an unfinished run"
            raise ConfigError(
                f"{self.folder} holds {state} of another recipe ({'; '.join(different[:5])}): "
                "give another --output, or --overwrite to start it anew."
            )
        return True

    def _has_begun(self) -> bool:
        """Whether the folder holds more than a recipe: one that was refused at once may be corrected in place."""
        logs = {path.name for path in self.folder.glob("vllm_*.log")}
        begun = {path.name for path in self.folder.iterdir()} - {"config.yaml", "versions.json", "checkpoints"} - logs
        return bool(begun) or any(self.checkpoints.glob("*"))

    def _remove(self) -> None:
        """Remove a run's files and those of its parts, and nothing else."""
        for part in sorted(self.folder.iterdir()):
            if part.is_symlink():
                continue
            if part.is_dir() and (part.name in OWN_FOLDERS or (part / "versions.json").is_file()):
                shutil.rmtree(part)
            elif part.name in OWN_FILES:
                part.unlink()


def step_of(checkpoint: Path) -> int:
    """The step after which the trainer wrote a checkpoint's folder."""
    return int(checkpoint.name.rsplit("-", 1)[1])


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


def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed one."""
    here = Path(__file__)
    # The settings of a repository around this package, as around an environment in it, may name programs.
    git = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True, timeout=10)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=10)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() + ("-changed" if changed.stdout.strip() else "")


def _differences(before: Any, now: Any, key: str = "") -> Iterable[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in before if name not in now)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now:
        yield f"{key}: {before!r} there, {now!r} now"
