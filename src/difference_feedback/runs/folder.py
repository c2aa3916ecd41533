"""A run's folder: what was asked, with what it was run, what was measured, and where it stands.

config.yaml      the resolved recipe, every default spelled out
versions.json    Python, packages, commit, platform, processor cores, seed
metrics.jsonl    one row a measurement: {"step": ..., "cpu_seconds": ..., ...}
checkpoints/     checkpoint-<step>/ folders, as the trainer writes them
summary.json     the result; its presence says that the run is finished
"""

import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from difference_feedback.errors import ConfigError
from difference_feedback.runs.recipes import Recipe, dump_recipe
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
OWN_FOLDERS = {"checkpoints", "model", "cells", "shared"}
OWN_FILES = {
    *("config.yaml", "versions.json", "metrics.jsonl", "summary.json"),
    *("examples.jsonl", "predictions.jsonl", "oracle_repairs.jsonl", "report.html", "results.jsonl"),
}


class Run:
    """One run in its folder. `resumed`: an earlier, interrupted one is continued; `finished`: it is done."""

    def __init__(self, folder: str | Path, recipe: Recipe, *, overwrite: bool = False) -> None:
        """Start a run in `folder`, or take up the interrupted one that lies there.

        Raises `ConfigError` when the folder holds something else: files that are no run, or a run of another recipe;
        `overwrite` starts that run anew (its own files are removed, nothing else in the folder).
        """
        self.folder = Path(folder)
        self.recipe = recipe
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file; a run needs a folder of its own.")
        self.resumed = False
        if overwrite and (self.folder / "config.yaml").is_file():
            self._remove()
        else:
            self.resumed = self._is_same_run()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints.mkdir(exist_ok=True)
        if self.resumed:
            self._write_metrics(self.metrics())  # drops a last row that was cut off
        else:
            write_atomically(self.folder / "config.yaml", dump_recipe(recipe))
        self.versions = versions() | {"seed": recipe.seed}
        write_atomically(self.folder / "versions.json", json.dumps(self.versions, indent=2) + "\n")

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
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(values), allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; the half-written last row of an interrupted run is left out."""
        return read_rows(self.metrics_path)

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint (the trainer writes its state file last)."""
        found = [p for p in self.checkpoints.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
        return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)

    def rewind(self, step: int) -> None:
        """Forget metrics after `step`: a run resumed from a checkpoint measures them again."""
        self._write_metrics([row for row in self.metrics() if row.get("step", 0) <= step])

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json, which marks the run as finished."""
        path = self.folder / "summary.json"
        write_atomically(path, json.dumps(_plain(dict(summary)), indent=2, allow_nan=False) + "\n")
        return path

    def summary(self) -> dict[str, Any]:
        """The result of a finished run."""
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    def child(self, name: str, recipe: Recipe) -> "Run":
        """A part of this run with a recipe of its own, in a folder below: a demo's training runs."""
        return Run(self.folder / name, recipe)

    def _write_metrics(self, rows: list[dict[str, Any]]) -> None:
        write_atomically(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows))

    def _is_same_run(self) -> bool:
        path = self.folder / "config.yaml"
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ConfigError(f"{self.folder} is not empty and holds no run: give --output an empty or new folder.")
            return False
        before = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        now = yaml.safe_load(dump_recipe(self.recipe))
        different = list(_differences(before, now))
        if different:
            state = "a finished run" if self.finished else "an unfinished run"
            raise ConfigError(
                f"{self.folder} holds {state} of another recipe ({'; '.join(different[:5])}): "
                "give another --output, or --overwrite to start it anew."
            )
        return True

    def _remove(self) -> None:
        """Remove a run's files and those of its parts, and nothing else."""
        for part in sorted(self.folder.iterdir()):
            if part.is_symlink():
                continue
            if part.is_dir() and (part.name in OWN_FOLDERS or (part / "versions.json").is_file()):
                shutil.rmtree(part)
            elif part.name in OWN_FILES:
                part.unlink()


def versions() -> dict[str, Any]:
    """What the run is made with: interpreter, packages, commit, machine. Imports none of the packages."""
    found: dict[str, Any] = {"python": sys.version.split()[0], "platform": platform.platform(), "cores": os.cpu_count()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found | {"commit": _commit()}


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a run interrupted meanwhile, sees the old file or the new one, never a part."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, without a last one that was cut off."""
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise ConfigError(f"{path}, line {number}: not JSON; the file was changed by hand?") from None
    return rows


def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed one."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True, timeout=10)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=10)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() + ("-changed" if changed.stdout.strip() else "")


def _plain(value: Any) -> Any:
    """JSON's own types: arrays and tensors to lists, numbers that are not finite to null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _differences(before: Any, now: Any, key: str = "") -> Iterable[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*now, *(name for name in before if name not in now)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now:
        yield f"{key}: {before!r} there, {now!r} now"
