"""What the folder of a model holds, read from its files alone. This loads no model and imports nothing heavy."""

import json
import os.path
import re
from pathlib import Path

from difference_feedback.errors import ConfigError
from difference_feedback.runs.validation import shorten

SHIPPED_BASE = Path(__file__).parents[1] / "world" / "shipped_base"
HUB_NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]{0,95}/)?[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"


def is_local(name: str) -> bool:
    """Whether a recipe's name of a model or data set is a path. A hub name is `name` or `owner/name`."""
    return name.startswith((".", "/", "~", "runs/")) or name.count("/") > 1 or os.path.exists(local_path(name))


def local_path(name: str) -> Path:
    """The path that a name stands for, with `~` resolved where its user is known."""
    return Path(os.path.expanduser(name))


def place_of(name: str) -> str:
    """The folder of a model, or its hub name as it is: what `from_pretrained` takes."""
    folder = local_path(name)
    return str(folder) if folder.is_dir() else name


def whole_place(name: str) -> str:
    """As `place_of`, for processes with another current folder."""
    folder = local_path(name)
    return str(folder.absolute()) if folder.is_dir() else name


def model_of(name: str) -> str:
    """The folder of a run's model where `name` is the run's folder; otherwise the name as it is."""
    folder = local_path(name)
    if os.path.isdir(folder / "model") and not any(os.path.isfile(folder / file) for file in ("config.json", CONFIG)):
        return str(Path(name) / "model")
    return name


def context_length(name: str) -> int | None:
    """Tokens that a model takes, prompt and answer together; None where no file of this machine says so."""
    folder = SHIPPED_BASE if name == "nano" else local_path(name)
    if (base := adapter_base(name)) is not None and base != name:
        return context_length(base)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        length = config.get("text_config", config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return length if isinstance(length, int) and length > 0 else None


def adapter_base(path: str | Path, key: str = "model") -> str | None:
    """The model that the adapter in a folder belongs to; None where the folder holds no adapter.

    Raises `ConfigError` for an adapter whose weights are not in safetensors; `key` is what the recipe calls it.
    """
    folder = local_path(str(path))
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{key}: {path} holds an adapter and no {WEIGHTS}: save it as safetensors.")
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{key}: {path}: {CONFIG} has no base_model_name_or_path ({error}): add the name of the base model."
        ) from error


def why_cut(path: Path) -> str | None:
    """Why a file of weights is no whole one; None where it is. Only its header is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return None
    except (SafetensorError, OSError) as error:
        return str(error)


def _check_weights(folder: Path, place: str) -> None:
    """Raise `ConfigError` where a file of weights in the folder was cut off or is missing. `place` names the model."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    names: set[str] = set()
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"{place}: {INDEX} cannot be read ({error}): copy or save the model again.") from None
    elif any("-of-" in path.name for path in files):
        names = {INDEX}
    for name in sorted(names - {path.name for path in files}):
        raise ConfigError(f"{place}: {name} is missing: copy or save the model again.")
    for path in files:
        if problem := why_cut(path):
            raise ConfigError(f"{place}: {path.name} is damaged ({problem}): copy or save the model again.")


def check_hub_name(name: str, key: str, what: str) -> None:
    """Raise `ConfigError` for what is no path and cannot be a name on the hub either, before the hub is asked."""
    if not HUB_NAME.fullmatch(name) or "--" in name or ".." in name:
        raise ConfigError(
            f"{key}: {shorten(name)!r} is no folder here, and no name on the hub either: give the path of {what}, or "
            "owner/name in letters, digits, - _ ."
        )


def check_model(name: str, key: str = "model") -> None:
    """Raise `ConfigError` where `name` is a path at which no usable model is. Hub names are left to the hub.

    `key` is what the recipe calls it. The base of an adapter is checked as well.
    """
    if name == "nano":
        return
    if not is_local(name):
        check_hub_name(name, key, "a model")
        return
    folder = local_path(name)
    run = folder.parent
    if folder.name == "model" and (run / "versions.json").is_file() and not (run / "summary.json").is_file():
        raise ConfigError(f"{key}: {name}: the run in {run} is not finished. Give its command again to finish it.")
    if not folder.is_dir():
        what = "this is a file" if folder.exists() else "there is no such folder"
        raise ConfigError(f"{key}: {name}: {what}. Give the folder of a model, for example runs/NAME/model of a run.")
    base = adapter_base(name, key)
    if base is not None:
        check_model(base, f"{key}: {name} is an adapter on")
    elif not (folder / "config.json").is_file():
        inside = " Its model is in the folder `model` below." if (folder / "model").is_dir() else ""
        raise ConfigError(f"{key}: {name}: no model is in this folder (no config.json).{inside}")
    elif not any(folder.glob("*.safetensors")):
        raise ConfigError(f"{key}: {name}: no weights in safetensors; save the model with `save_pretrained`.")
    _check_weights(folder, f"{key}: {name}")
