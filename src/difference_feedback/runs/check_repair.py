"""Find what must fail before `repair check` loads anything: the repair model, the wrong answers, servers, the run."""

import json

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check import check, check_flaws
from difference_feedback.runs.check_files import check_wrong_answers
from difference_feedback.runs.model_folder import adapter_base, check_model, context_length, local_path
from difference_feedback.runs.packages import require
from difference_feedback.runs.recipes import EMBEDDED_REPAIRERS
from difference_feedback.runs.repair_check import SIBLING, RepairCheckRecipe
from difference_feedback.runs.servers import check_server, endpoints_of

NO_MODEL = (*EMBEDDED_REPAIRERS, SIBLING, "policy")
"""Values of `repair_model` that name no model of their own."""


def check_repair_check(recipe: RepairCheckRecipe) -> None:
    """Raise `ConfigError` for what cannot work: the place, the key, and what to do about it."""
    _check_model(recipe.policy, "policy")
    _check_length(recipe)
    if recipe.wrong_answers is not None:
        for key in ("data", "tasks", "format_prompt", "max_prompt_length"):
            if getattr(recipe, key) is not None:
                raise ConfigError(
                    f"{key}: the questions stand in the file of wrong_answers already: leave one of the two out."
                )
        check_wrong_answers(recipe.wrong_answers)
    check(recipe.asking)
    _check_repairer(recipe)
    _check_audit(recipe)
    for key, endpoint in endpoints_of(recipe).items():
        check_server(endpoint, key)
    if recipe.min_probability and recipe.sampling.endpoint is not None:
        raise ConfigError(
            "min_probability needs the policy's probabilities, which sampling.endpoint does not give: leave one of the "
            "two out."
        )
    if recipe.run is not None:
        cost_of_run(recipe)


def cost_of_run(recipe: RepairCheckRecipe) -> dict[str, dict[str, float]]:
    """Clock -> terms of Eq. 29 of a finished training run. Raises `ConfigError` for a folder without them."""
    name = str(recipe.run)
    if recipe.base_seconds is not None:
        raise ConfigError("base_seconds and run both say what C_base is: leave one of the two out.")
    path = local_path(name) / "summary.json"
    if not path.is_file():
        raise ConfigError(f"run: {name} holds no finished run (no summary.json): give the folder of a training run.")
    try:
        cost = json.loads(path.read_text(encoding="utf-8")).get("cost")
        terms = {
            clock: {key: float(values[key]) for key in ("base", "answers", "p_err")} for clock, values in cost.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        terms = {}
    if not terms or not all(of["base"] > 0 and of["answers"] > 0 and 0 <= of["p_err"] <= 1 for of in terms.values()):
        raise ConfigError(
            f"run: {path} has no terms of Eq. 29 under `cost`: give a run of `difference-feedback train`."
        )
    return terms


def _check_model(name: str, key: str) -> None:
    check_model(name, key)
    if adapter_base(name) is not None:
        require("peft", f"{key}: {name} is an adapter, which")


def _check_length(recipe: RepairCheckRecipe) -> None:
    context, length = context_length(recipe.policy), recipe.longest
    if context is not None and length >= context:
        raise ConfigError(
            f"sampling.max_new_tokens: an answer of {length} tokens leaves no room for a prompt: the policy has "
            f"{context}. Lower it."
        )


def _check_repairer(recipe: RepairCheckRecipe) -> None:
    """Exactly one of a model, the policy, one of the names, and a server."""
    model, source = recipe.repair_model, recipe.repairs
    check_flaws(source, model)
    if source.via != "local":
        if source.endpoint is None:
            raise ConfigError(f"repairs.via: {source.via} needs repairs.endpoint, the url and model of the server.")
        if model is not None:
            raise ConfigError(
                f"repair_model is a model for this process, but repairs.via: {source.via} asks a server: leave one "
                "out, for example by repair_model=null."
            )
    elif source.endpoint is not None:
        raise ConfigError(
            "repairs.endpoint names a server, but via: local asks no server: set repairs.via to endpoint or vllm."
        )
    elif model is None:
        raise ConfigError(
            "repair_model is missing: name the folder or hub name of a repair model, or a server in repairs.endpoint "
            "with repairs.via=endpoint."
        )
    elif model in ("oracle", "blind_rewriter") and not recipe.is_embedded:
        key = "data" if recipe.data else "wrong_answers"
        raise ConfigError(
            f"repair_model: {model} knows the embedded problems alone, and {key} names others: give a repair model."
        )
    elif model == SIBLING and recipe.wrong_answers is not None:
        raise ConfigError("repair_model: sibling needs the answers of a group: use reference with wrong_answers.")
    elif model == "policy" and recipe.sampling.endpoint is not None and recipe.wrong_answers is None:
        raise ConfigError(
            "repair_model: policy is a model in this process, but sampling.endpoint is a server of it: name the server "
            "in repairs.endpoint as well, with repairs.via=vllm and repair_model=null."
        )
    elif model not in NO_MODEL:
        _check_model(model, "repair_model")
    sampled = source.via != "local" or model == "policy" or model not in NO_MODEL
    if sampled and source.temperature == 0 and recipe.num_repairs > 1:
        raise ConfigError(
            f"repairs.temperature is 0, so all {recipe.num_repairs} repairs of num_repairs would be equal: use a "
            "temperature above 0, or num_repairs=1."
        )


def _check_audit(recipe: RepairCheckRecipe) -> None:
    audit = recipe.audit
    if audit is None or not audit.enabled:
        return
    if audit.auditor == "embedded":
        raise ConfigError(
            "audit.auditor: embedded goes by the embedded world's truth, which this command reads itself: leave audit "
            "out there, and give audit.auditor=endpoint with audit.endpoint for other questions."
        )
    if audit.endpoint is None:
        raise ConfigError("audit.endpoint is missing: audit.auditor=endpoint needs its url and model.")
