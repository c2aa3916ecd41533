"""What the folder of a model holds, read from its files alone. This loads no model and imports nothing heavy."""

import json
from pathlib import Path

from difference_feedback.errors import ConfigError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"


def is_local(name: str) -> bool:
    """Whether a recipe's name of a model or data set is a path. A hub name is `name` or `owner/name`."""
    path = Path(name).expanduser()
    return name.startswith((".", "/", "~", "runs/")) or name.count("/") > 1 or path.exists()


def place_of(name: str) -> str:
    """The folder of a model, or its hub name as it is: what `from_pretrained` takes."""
    folder = Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


def model_of(name: str) -> str:
    """The folder of a run's model where `name` is the run's folder; otherwise the name as it is."""
    folder = Path(name).expanduser()
    if (folder / "model").is_dir() and not any((folder / file).is_file() for file in ("config.json", CONFIG)):
        return str(Path(name) / "model")
    return name


def adapter_base(path: str | Path, key: str = "model") -> str | None:
    """The model that the adapter in a folder belongs to; None where the folder holds no adapter.

    Raises `ConfigError` for an adapter whose weights are not in safetensors; `key` is what the recipe calls it.
    """
    folder = Path(path).expanduser()
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{key}: {path} holds an adapter and no {WEIGHTS}: save it as safetensors.")
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError) as error:
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


def check_model(name: str, key: str = "model") -> None:
    """Raise `ConfigError` where `name` is a path at which no usable model is. Hub names are left to the hub.

    `key` is what the recipe calls it. The base of an adapter is checked as well.
    """
    if name == "nano" or not is_local(name):
        return
    folder = Path(name).expanduser()
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
