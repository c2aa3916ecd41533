"""Find what must fail before anything is loaded: models, data, servers, packages, and keys that contradict.

`check` is called before a run's folder is made. It imports no torch, so that a mistake is reported at once.
"""

from collections.abc import Collection, Mapping
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check_files import check_data, check_repairs
from difference_feedback.runs.check_host import HOST_OBJECTIVES, check_host, check_published, check_trackers
from difference_feedback.runs.check_values import check_values
from difference_feedback.runs.hub import check_hub
from difference_feedback.runs.model_folder import adapter_base, check_model, local_path
from difference_feedback.runs.packages import TRACKERS, is_installed, require
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import (
    EMBEDDED_REPAIRERS,
    BaseRecipe,
    BenchmarksRecipe,
    EvaluateRecipe,
    QuestionRecipe,
    Recipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.rewards import BENCHMARKS, BUILT_IN, EMBEDDED, JUDGE, JUDGED, check_rewards, rewards_of
from difference_feedback.runs.sections import Data, Repairs
from difference_feedback.runs.servers import check_reachable, check_server, endpoints_of, named
from difference_feedback.runs.validation import nearest


def check(recipe: Recipe) -> None:
    """Raise `ConfigError` for what cannot work: the place, the key, and what to do about it.

    `bench.cells.check_plan` checks a plan, cell by cell. A base needs nothing.
    """
    check_values(recipe)
    match recipe:
        case TrainRecipe():
            _check_train(recipe)
        case RepairSFTRecipe():
            _check_repair(recipe)
            prompt_form(recipe.system_prompt)
            if recipe.max_length is not None and not recipe.data:
                raise ConfigError("max_length is for your own data, and the embedded problems all fit: leave it out.")
            if recipe.data:
                check_repairs(recipe.data)
            else:
                _check_policy_server(recipe, recipe.model)
        case RepairRLRecipe():
            _check_repair_rl(recipe)
            _check_policy_server(recipe, recipe.policy)
        case BaseRecipe():
            _refuse_policy_server(recipe)
        case EvaluateRecipe():
            _check_model(recipe.model)
            _check_grading(recipe, recipe.data)
            _check_policy_server(recipe, recipe.model)
        case BenchmarksRecipe():
            _check_benchmarks(recipe)


def check_compared(recipe: Recipe, place: str, made: Collection[str] = ()) -> None:
    """`check` for a part of a comparison at the same processor time; `place` is where its keys stand.

    `made` are keys for models that the comparison itself trains first: whatever they hold is replaced.
    """
    recipe = recipe.model_copy(update=dict.fromkeys(made, "nano"))
    try:
        for key, endpoint in endpoints_of(recipe).items():
            if endpoint.serve is not None:
                raise ConfigError(f"{key}.serve: runs that are compared would share it: start the server yourself.")
        if isinstance(recipe, TrainRecipe) and recipe.host != "trl":
            raise ConfigError(
                f"host: {recipe.host} cannot be compared at the same processor time, which is measured in this "
                "process alone: use host: trl here, and `difference-feedback train` for a run on verl."
            )
        if isinstance(recipe, QuestionRecipe) and (functions := set(rewards_of(recipe)) - set(BUILT_IN)):
            raise ConfigError(
                f"reward: {min(functions)} cannot be compared: results are kept by the recipe, which does not hold "
                f"your function, and the base is graded by the checker. Use one of {', '.join(BUILT_IN)}."
            )
        if getattr(recipe, "push_to_hub", None):
            raise ConfigError(
                "push_to_hub: a comparison trains many models: leave it out, and upload the one you want."
            )
        check(recipe)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _check_train(recipe: TrainRecipe) -> None:
    _refuse_policy_server(recipe)
    if recipe.method != "df-grpo" and recipe.repair_model:
        raise ConfigError(
            f"repair_model is set, but method {recipe.method} repairs nothing: use method: df-grpo, or leave it out."
        )
    if recipe.repairs.endpoint is not None and recipe.repairs.via == "local":
        raise ConfigError(
            "repairs.endpoint names a server, but via: local asks no server: set via to endpoint or vllm."
        )
    check_host(recipe)
    if recipe.host == "trl":
        _check_trl(recipe)
    check_published(recipe)
    _check_trained(recipe)
    _check_grading(recipe, recipe.data)
    if recipe.test_data:
        check_data(recipe.test_data, "test_data")
    if recipe.needs_repairer:
        _check_repairer(recipe)


def _check_trl(recipe: TrainRecipe | RepairSFTRecipe | RepairRLRecipe) -> None:
    """TRL itself, and what its settings need."""
    if not is_installed("trl"):
        raise ConfigError(
            "host: trl needs TRL, which is not installed here: pip install trl, in an environment without verl."
        )
    check_trackers(recipe, TRACKERS)
    if recipe.push_to_hub and recipe.trl.get("push_to_hub"):
        raise ConfigError("push_to_hub and trl.push_to_hub both upload the model: leave one of the two out.")
    if recipe.trl.get("push_to_hub"):
        check_hub(recipe.trl.get("hub_model_id"), "trl.push_to_hub")
    if recipe.trl.get("log_completions") and recipe.trl.get("log_completions_hub_repo"):
        check_hub(recipe.trl["log_completions_hub_repo"], "trl.log_completions_hub_repo")
    if recipe.trl.get("use_vllm") is True:
        _check_trl_vllm(recipe.trl)


def _check_trl_vllm(trl: Mapping[str, Any]) -> None:
    """What TRL would find after the model is loaded: vLLM in this environment, and with `server` one that answers."""
    if not is_installed("vllm"):
        raise ConfigError(
            "trl.use_vllm: vLLM is not installed in this environment: pip install 'trl[vllm]', which may change torch, "
            "or set trl.use_vllm=false."
        )
    if trl.get("vllm_mode", "colocate") == "server":
        host = {"0.0.0.0": "127.0.0.1"}.get(trl.get("vllm_server_host", "0.0.0.0"), trl.get("vllm_server_host"))
        url = trl.get("vllm_server_base_url") or f"http://{host}:{trl.get('vllm_server_port', 8000)}"
        key = "vllm_server_base_url" if trl.get("vllm_server_base_url") else "vllm_server_host and vllm_server_port"
        check_reachable(url, f"trl.{key}")


def check_flaws(repairs: Repairs, model: str | None) -> None:
    """Raise `ConfigError` for flaws of the oracle where it repairs nothing."""
    for key in ("oracle_right", "oracle_clean"):
        if getattr(repairs, key) < 1 and model != "oracle":
            raise ConfigError(f"repairs.{key} makes repair_model: oracle worse, and here it is {model}: leave it out.")


def _check_repairer(recipe: TrainRecipe) -> None:
    """Where the repairs come from: exactly one of a model, the policy, an embedded repairer, and a server."""
    via, endpoint, model = recipe.repairs.via, recipe.repairs.endpoint, recipe.repair_model
    check_flaws(recipe.repairs, model)
    if recipe.scores_drafts and (via != "local" or model in EMBEDDED_REPAIRERS):
        source = f"repairs.via: {via}" if via != "local" else f"repair_model: {model}"
        raise ConfigError(
            f"trl.weights: {recipe.trl['weights']} needs a repair model's probabilities of the policy's own tokens, "
            f"which {source} does not give: name a folder or hub name in repair_model, or use trl.weights: mask."
        )
    if via != "local":
        if endpoint is None:
            raise ConfigError(f"repairs.via: {via} needs repairs.endpoint, the url and model of the server.")
        if model is not None:
            raise ConfigError(
                f"repair_model is a model for this process, but repairs.via: {via} asks a server: leave one out."
            )
        check_server(endpoint, "repairs.endpoint")
        return
    if model is None:
        raise ConfigError(
            "method df-grpo needs repair_model, the folder or hub name of a repair model: train one with "
            "`difference-feedback repair sft` and `repair rl`, name a server in repairs.endpoint, or give method=grpo."
        )
    if model in EMBEDDED_REPAIRERS:
        if recipe.data and model != "reference":
            raise ConfigError(
                f"repair_model: {model} knows the embedded problems alone, and data names others: give a repair model."
            )
    elif model != "policy":
        _check_model(model, "repair_model")


def _check_repair(recipe: RepairSFTRecipe | RepairRLRecipe) -> None:
    """What the two stages of a repair model have in common."""
    _check_trl(recipe)
    check_published(recipe)
    if recipe.evaluation.split != "test":
        raise ConfigError("evaluation.split: repair holds the images that repair models are trained on: use test.")
    _check_trained(recipe)


def _check_repair_rl(recipe: RepairRLRecipe) -> None:
    if recipe.objective not in HOST_OBJECTIVES["trl"]:
        names = ", ".join(HOST_OBJECTIVES["trl"])
        raise ConfigError(f"objective: {recipe.objective} cannot train a repair model: choose one of {names}.")
    _check_repair(recipe)
    _check_questions(recipe)
    if JUDGE in rewards_of(recipe):
        raise ConfigError(
            "reward: llm-judge grades no repairs, which this stage samples by the thousand: use final-answer, or a "
            "function of your own."
        )
    _check_model(recipe.policy, "policy")
    for key in ("data", "test_data"):
        if (data := getattr(recipe, key)) is not None:
            check_data(data, key)
    audit = recipe.audit
    if audit.enabled and audit.auditor == "embedded" and recipe.data:
        raise ConfigError(
            "audit.auditor: embedded goes by the embedded world's truth, and data holds other questions: give "
            "audit.auditor=endpoint with audit.endpoint, or audit.enabled=false."
        )
    if audit.enabled and audit.auditor == "endpoint":
        if audit.endpoint is None:
            raise ConfigError("audit.endpoint is missing: audit.auditor=endpoint needs its url and model.")
        check_server(audit.endpoint, "audit.endpoint")


def _check_grading(recipe: TrainRecipe | EvaluateRecipe, data: Data | None) -> None:
    """Questions, and who grades the answers to them."""
    if data and recipe.tasks:
        raise ConfigError("tasks names embedded tasks, and data replaces them: leave one of the two out.")
    _check_questions(recipe)
    judged = set(rewards_of(recipe)) & set(JUDGED)
    if (recipe.judge is None and JUDGE in judged) or (recipe.judge is not None and not judged):
        raise ConfigError(
            "judge and reward: llm-judge go together: give both, or neither; judge.endpoint is the url and model of "
            "the language model that grades."
        )
    if data:
        check_data(data, "data")
    if recipe.judge is not None:
        check_server(recipe.judge.endpoint, "judge.endpoint")


def _check_questions(recipe: TrainRecipe | EvaluateRecipe | RepairRLRecipe) -> None:
    """The form of the prompts, and the rewards."""
    prompt_form(recipe.system_prompt, recipe.format_prompt)
    check_rewards(recipe)
    if "max_prompt_length" in getattr(recipe, "trl", {}):
        raise ConfigError("trl.max_prompt_length: TRL has it no more: write max_prompt_length, without trl.")
    if recipe.data and EMBEDDED in rewards_of(recipe):
        raise ConfigError("reward: embedded grades the embedded tasks alone; with data use final-answer.")
    if recipe.data is None and (names := [name for name in rewards_of(recipe) if name in BENCHMARKS]):
        raise ConfigError(f"reward: {names[0]} is a benchmark's answer rule: give its rows as data.path.")


def _check_trained(recipe: TrainRecipe | RepairSFTRecipe | RepairRLRecipe) -> None:
    """The model that is trained, and the adapter on it."""
    _check_model(recipe.model)
    adapter = adapter_base(recipe.model) is not None
    switch = {"bfloat16": "bf16", "float16": "fp16"}.get(recipe.dtype)
    if switch and recipe.trl.get(switch) is False and not adapter and recipe.lora is None:
        raise ConfigError(
            f"dtype: {recipe.dtype} is the precision of the computation, which trl.{switch}: false switches off: leave "
            "one of the two out."
        )
    if recipe.lora is not None:
        require("peft", "lora")
        if adapter:
            raise ConfigError("lora: the model is an adapter already, which is trained as it is: leave lora out.")


def _check_model(name: str, key: str = "model") -> None:
    check_model(name, key)
    if adapter_base(name) is not None:
        require("peft", f"{key}: {name} is an adapter, which")


def _check_policy_server(recipe: EvaluateRecipe | RepairSFTRecipe | RepairRLRecipe, model: str) -> None:
    if (endpoint := named(recipe.evaluation.endpoint, model)) is not None:
        check_server(endpoint, "evaluation.endpoint")


def _refuse_policy_server(recipe: TrainRecipe | BaseRecipe) -> None:
    if recipe.evaluation.endpoint is not None:
        raise ConfigError(
            f"evaluation.endpoint: kind {recipe.kind} trains the model, and the server would not get its weights: "
            "leave it out here, and run `difference-feedback evaluate` with it afterwards."
        )


def _check_benchmarks(recipe: BenchmarksRecipe) -> None:
    _check_model(recipe.model)
    prompt_form(recipe.system_prompt, recipe.format_prompt)
    for place, task in enumerate(recipe.tasks):
        if task in recipe.tasks[:place]:
            raise ConfigError(f"tasks: {task} is named twice: name each task once.")
    for task, path in recipe.data.items():
        if task not in recipe.tasks:
            raise ConfigError(f"data.{task}: tasks does not name it.{nearest(task, recipe.tasks)}")
        if not local_path(path).exists():
            raise ConfigError(
                f"data.{task}: {path} does not exist: give a folder of `save_to_disk`, a file in parquet or JSON "
                "Lines, or a copy of the data set's repository."
            )
    if (endpoint := named(recipe.endpoint, recipe.model)) is not None:
        check_server(endpoint, "endpoint")
    if recipe.judge is not None:
        check_server(recipe.judge, "judge")
