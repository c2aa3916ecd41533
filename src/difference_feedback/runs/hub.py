"""Upload a finished run's model to the Hugging Face hub, with a card that says how it was made."""

from pathlib import Path
from typing import Any

import yaml

from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.runs.first_rank import is_first_rank
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import to_json
from difference_feedback.runs.loading import dump_recipe
from difference_feedback.runs.model_folder import is_local
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.runs.terminal import echo

HUB_SECONDS = 10.0
"""Longest time until the hub answers."""
RECORD = "hub.json"
"""In the run's folder once its model is uploaded: the repository and the commit."""
_FIGURES = ("accuracy", "interval", "problems", "base_accuracy", "steps", "updates", "examples", "drafts")


def check_hub(name: str | None, key: str = "push_to_hub") -> None:
    """Raise `ConfigError` for a name that is no repository's, and where there is no token. The hub is not asked.

    `key` is the recipe's. Without a name, that of the token's owner is used, as TRL does.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name or "owner/name")
        well_formed = name is None or name.count("/") == 1
    except HFValidationError:
        well_formed = False
    if not well_formed:
        raise ConfigError(f"{key}: {name!r} is no repository's name: give owner/name, in letters, digits, - _ .")
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"{key}: HF_HUB_OFFLINE is set, so nothing can be uploaded: unset it, or leave it out.")
    if not get_token():
        raise ConfigError(f"{key} needs a token with write access: run `hf auth login`, or set HF_TOKEN.")


def check_on_hub(name: str, key: str) -> None:
    """Raise `ConfigError` for a model's name that the hub does not know, or that is not here while the hub is away.

    A model in the cache is not asked for. transformers would try for half a minute, when the run's folder is made.
    """
    if name == "nano" or is_local(name):
        return
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{key}: {name} is no folder here, and the hub has no such model, or your token may not see it: correct "
            "the name, or run `hf auth login`."
        ) from None
    except Exception as error:  # whatever the hub, the network or a proxy does
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"{key}: {name} is no folder here and not in the cache, and {constants.ENDPOINT} gives no answer "
            f"({reason}): give a folder, or fetch it first with `hf download {name}`."
        ) from None


def upload(run: Run, name: str) -> str | None:
    """Upload the model of a finished run to the repository `name`, which is made private where it does not exist.

    Returns the address; None where nothing was uploaded, since it was done before, or another process does it.

    Raises `DifferenceFeedbackError` when the hub cannot be reached or refuses. The run stays finished, and the message
    has the command to upload by hand.
    """
    record = run.folder / RECORD
    if record.is_file() or not is_first_rank():
        return None
    from huggingface_hub import HfApi

    write_atomically(run.model_path / "README.md", model_card(run))
    echo(f"Uploading {run.model_path} to {name} ...", err=True)
    try:
        api = HfApi()
        api.create_repo(name, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name,
            folder_path=run.model_path,
            commit_message="Model of a Difference Feedback run",
            ignore_patterns=["training_args.bin"],  # a pickle that nobody needs
        )
    except Exception as error:  # whatever the hub, the network or a proxy does: the run is finished, and must stay so
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DifferenceFeedbackError(
            f"push_to_hub: the run is finished, and its model is in {run.model_path}, but the upload to {name} failed "
            f"({reason}). Give the same command again to upload it, or: hf upload {name} {run.model_path} --private"
        ) from error
    write_atomically(record, to_json({"repository": name, "commit": commit.oid}, indent=2) + "\n")
    return str(commit.repo_url)


def model_card(run: Run) -> str:
    """The model's README: its base, the figures of the summary, and the recipe without addresses of servers."""
    recipe = _without_servers(yaml.safe_load(dump_recipe(run.recipe)))
    base = str(recipe.get("model"))
    about: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    about["tags"] = ["difference-feedback", recipe["kind"]]
    if "/" in base and not is_local(base):
        about["base_model"] = base
    summary = run.summary()
    figures = [f"| {name} | {_figure(summary[name])} |" for name in _FIGURES if summary.get(name) is not None]
    shown = Path(base).name if is_local(base) else base
    kinds = {"train": "policy", "repair-sft": "repair model (stage 1)", "repair-rl": "repair model (stage 2)"}
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False)}---",
        f"# {run.folder.resolve().name}",
        f"A {kinds[recipe['kind']]}, trained with Difference Feedback from `{shown}`.",
    ]
    if figures:
        parts.append("\n".join(["| figure | value |", "|---|---|", *figures]))
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    parts.append("## Recipe\n\n" + "\n".join(f"    {line}".rstrip() for line in text.splitlines()))
    return "\n\n".join(parts) + "\n"


def _figure(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_figure, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _without_servers(value: Any) -> Any:
    """A copy without the addresses of servers and the names of variables that hold keys: they concern nobody else."""
    if not isinstance(value, dict):
        return value
    return {key: _without_servers(item) for key, item in value.items() if key not in ("url", "api_key_env", "cache")}
