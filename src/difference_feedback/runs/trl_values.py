"""Values that settings under `trl:` may have, on both hosts: ranges and names that TRL itself does not check, or late.

TRL takes a NaN, a negative rate or a batch of 0 answers, and then fails after the model is loaded, or trains nothing
without a word. The keys and their types are those of TRL's own classes, see `runs.validation.build_config`; a key that
is not here has no range, and its numbers are finite all the same.
"""

import os
import os.path
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from difference_feedback.errors import ConfigError
from difference_feedback.runs.packages import is_installed
from difference_feedback.runs.validation import check_value, describe, shorten
from difference_feedback.runs.value_types import BaseURL, NonNegativeInt, PositiveInt, Rate, Seconds, Seed, Share

_Positive = Annotated[float, Field(gt=0, le=1e6)]
_NotNegative = Annotated[float, Field(ge=0, le=1e6)]
_Scale = Annotated[float, Field(ge=1e-3, le=1e6)]
_PositiveShare = Annotated[float, Field(gt=0, le=1)]
_BelowOne = Annotated[float, Field(ge=0, lt=1)]
_Port = Annotated[int, Field(gt=0, lt=2**16)]
_Size = Annotated[int, Field(gt=0, le=2**20)]
_Checkpointing = dict[
    Literal["use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop", "selective"], Any
]
_Reward = Annotated[float, Field(ge=-1e6, le=1e6)]
_Token = Annotated[int, Field(ge=0, lt=2**31)]
_LogLevel = Literal["debug", "info", "warning", "error", "critical", "passive"]


def _norm(value: float) -> float:
    if 0 < value < 1e-6:
        raise ValueError("0, which clips nothing, or at least 1e-6: below it nothing is trained")
    return value


VALUES: dict[str, Any] = {
    # how long
    "max_steps": Literal[-1] | PositiveInt,
    "num_train_epochs": _Positive,
    # batches
    "per_device_train_batch_size": _Size,
    "per_device_eval_batch_size": _Size,
    "gradient_accumulation_steps": _Size,
    "generation_batch_size": _Size | None,
    "steps_per_generation": _Size | None,
    "num_generations": Annotated[int, Field(ge=2, le=2**20)],
    "num_generations_eval": Annotated[int, Field(ge=2, le=2**20)] | None,
    "num_iterations": Annotated[int, Field(gt=0, le=1000)],
    # the update
    "learning_rate": Rate,
    "lr_scheduler_type": str,
    "optim": str,
    "warmup_steps": _NotNegative,
    "weight_decay": Share,
    "adam_beta1": _BelowOne,
    "adam_beta2": _BelowOne,
    "adam_epsilon": Annotated[float, Field(gt=0, lt=1)],
    "max_grad_norm": Annotated[float, Field(ge=0, le=1e6), AfterValidator(_norm)],
    "label_smoothing_factor": _BelowOne,
    "neftune_noise_alpha": _NotNegative | None,
    "beta": _NotNegative,
    "epsilon": _PositiveShare | None,
    "epsilon_high": _Positive | None,
    "delta": Annotated[float, Field(gt=1, le=1e6)] | None,
    "sapo_temperature_neg": _Scale,
    "sapo_temperature_pos": _Scale,
    "vespo_k_pos": _Scale,
    "vespo_k_neg": _Scale,
    "vespo_lambda_pos": _Scale,
    "vespo_lambda_neg": _Scale,
    "ar_alpha": Share,
    "prm_beta": _NotNegative,
    "prm_learning_rate": Rate,
    "prm_gamma": Share,
    "prompt_accuracy_low": Share,
    "prompt_accuracy_high": Share,
    "top_entropy_quantile": Annotated[float, Field(ge=0.01, le=1)],
    "ref_model_mixup_alpha": Share,
    "ref_model_sync_steps": PositiveInt,
    "reward_weights": list[_Reward] | None,
    "scale_rewards": Literal["group", "batch", "none"] | None,
    "multi_objective_aggregation": Literal["sum_then_normalize", "normalize_then_sum"],
    "gradient_checkpointing": bool,
    "gradient_checkpointing_kwargs": _Checkpointing | None,
    "activation_checkpointing_kwargs": _Checkpointing | None,
    "torch_compile_mode": Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None,
    "torch_compile_backend": Literal["inductor", "eager", "aot_eager", "cudagraphs", "tensorrt", "tvm"] | None,
    # answers
    "max_completion_length": PositiveInt,
    "temperature": Annotated[float, Field(ge=0.01, le=10)],
    "top_p": _PositiveShare,
    "top_k": NonNegativeInt,
    "min_p": Share | None,
    "repetition_penalty": Annotated[float, Field(ge=0.01, le=100)],
    "cache_implementation": Literal["dynamic", "static", "hybrid", "sliding_window", "offloaded"] | None,
    "chat_template_kwargs": dict[str, Any] | None,
    "vllm_model_impl": Literal["vllm", "transformers"],
    "vllm_mode": Literal["colocate", "server"],
    "vllm_server_base_url": BaseURL | None,
    "vllm_server_port": _Port,
    "vllm_group_port": _Port,
    "vllm_server_timeout": Seconds,
    "vllm_gpu_memory_utilization": _PositiveShare,
    "vllm_max_model_length": PositiveInt | None,
    "vllm_tensor_parallel_size": _Size,
    "vllm_importance_sampling_mode": Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"],
    "vllm_importance_sampling_clip_max": _Positive | None,
    "vllm_importance_sampling_clip_min": _NotNegative | None,
    # rows, logs, checkpoints
    "data_seed": Seed | None,
    "dataloader_num_workers": Annotated[int, Field(ge=0, le=1024)],
    "dataloader_multiprocessing_context": Literal["fork", "spawn", "forkserver"] | None,
    "dataloader_prefetch_factor": _Size | None,
    "dataset_num_proc": Annotated[int, Field(gt=0, le=1024)] | None,
    "pad_to_multiple_of": Literal["auto", "none"] | _Size | None,
    "train_sampling_strategy": Literal["random", "sequential"],
    "logging_steps": _Positive,
    "save_steps": _Positive,
    "save_total_limit": PositiveInt | None,
    "num_completions_to_print": PositiveInt | None,
    "torch_empty_cache_steps": PositiveInt | None,
    "ddp_timeout": PositiveInt,
    "ddp_bucket_cap_mb": PositiveInt | None,
    "log_level": _LogLevel,
    "log_level_replica": _LogLevel,
    "report_to": str | list[str] | None,
    # of the method, on both hosts
    "num_repairs": Annotated[int, Field(ge=0, le=1024)],
    "reference_seed": Seed,
    "sigma": _Positive | None,
    "max_edit_cost": _PositiveShare,
    "min_probability": _BelowOne,
    # checkpoints: callbacks read their own state; restored ones would write to the folder of before
    "restore_callback_states_from_checkpoint": Literal[False],
}

GENERATION: dict[str, Any] = {
    key: VALUES[key] for key in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
}
"""Settings of `generate` under `trl.generation_kwargs`: those that shape how an answer is sampled, token by token."""
GENERATION |= {
    "typical_p": Annotated[float, Field(gt=0, le=1)],
    "top_h": Annotated[float, Field(gt=0, le=1)] | None,
    "epsilon_cutoff": _BelowOne,
    "eta_cutoff": _BelowOne,
    "no_repeat_ngram_size": NonNegativeInt,
    "min_new_tokens": NonNegativeInt | None,
    "min_length": NonNegativeInt,
    "bad_words_ids": Annotated[list[Annotated[list[_Token], Field(min_length=1)]], Field(min_length=1)] | None,
    "suppress_tokens": list[_Token] | None,
    "begin_suppress_tokens": list[_Token] | None,
    "renormalize_logits": bool,
    "remove_invalid_values": bool,
    "use_cache": bool,
}

_OF_THE_TEMPLATE = {"conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt"}
_OF_ITS_RESULT = {"continue_final_message", "tokenize", "return_dict", "return_tensors", "return_assistant_tokens_mask"}
_OF_ITS_TOKENS = {"padding", "truncation", "max_length", "processor_kwargs", "tokenizer_kwargs"}
_OF_THE_CALL = _OF_THE_TEMPLATE | _OF_ITS_RESULT | _OF_ITS_TOKENS

FILES = ("deepspeed", "fsdp_config", "accelerator_config")
"""Settings that are a mapping, or the name of a file with one."""

NOT_OURS: dict[str, tuple[tuple[Any, ...], str]] = {
    "eval_strategy": (("no",), "held-out questions are answered by evaluation.every"),
    "eval_on_start": ((False,), "held-out questions are answered before the first step in any case"),
    "load_best_model_at_end": ((False,), "the run keeps the last model; evaluate a checkpoint by its folder"),
    "resume_from_checkpoint": ((), "the same command goes on from the last checkpoint in the run's folder"),
    "model_init_kwargs": ((), "the run loads the model: give model, dtype and attention"),
    "save_strategy": (("no", "steps", "epoch"), "the trainer itself measures nothing that could be best"),
    "trust_remote_code": ((False,), "no code that comes with a model is run"),
    "packing": ((False,), "rows with images cannot be packed"),
    "padding_free": ((False,), "rows with images need padding"),
    "assistant_only_loss": ((False,), "the repair alone is trained on in any case"),
    "completion_only_loss": ((True,), "the repair alone is trained on in any case"),
    "remove_unused_columns": ((False,), "rewards read the columns"),
    "chat_template_path": ((), "a model is asked by its own template"),
}
"""Settings of which a run takes these values alone, and why: others would fail late, or do nothing."""


def check_trl(trl: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a value out of its range, which names the key and what is possible."""
    for key, value in trl.items():
        possible, reason = NOT_OURS.get(key, ((value,), ""))
        if value is not None and value not in possible:
            raise ConfigError(f"trl.{key}: {describe(value)} is not possible here: {reason}. Leave it out.")
        if key in VALUES:
            check_value(f"trl.{key}", VALUES[key], value)
        if key == "chat_template_kwargs" and value and (names := set(value) & _OF_THE_CALL):
            raise ConfigError(f"trl.{key}.{min(names)} is set by the trainer itself: leave it out.")
        if key in FILES and isinstance(value, str) and not value.lstrip().startswith("{") and not os.path.isfile(value):
            raise ConfigError(f"trl.{key}: {shorten(repr(value))} is no file: give a mapping, or a file of JSON.")
    if trl.get("dataloader_persistent_workers") is True and not trl.get("dataloader_num_workers"):
        raise ConfigError("trl.dataloader_persistent_workers: there are none: give trl.dataloader_num_workers, too.")
    _check_accelerator(trl.get("accelerator_config"))
    _check_deepspeed(trl.get("deepspeed"))
    low, high = trl.get("epsilon"), trl.get("epsilon_high")
    if trl.get("delta") is not None and trl["delta"] <= 1 + (high or low or 0.2):
        raise ConfigError(
            f"trl.delta: {trl['delta']} must be above 1 + the clipping range, {1 + (high or low or 0.2):g}: raise it."
        )


def _check_accelerator(values: Any) -> None:
    """Those of accelerate's settings that rows of texts and images allow."""
    if isinstance(values, Mapping):
        if values.get("dispatch_batches"):
            raise ConfigError("trl.accelerator_config.dispatch_batches: rows hold texts and images: leave it out.")
        if values.get("gradient_accumulation_kwargs"):
            raise ConfigError(
                "trl.accelerator_config.gradient_accumulation_kwargs: give trl.gradient_accumulation_steps instead."
            )


def _check_deepspeed(values: Any) -> None:
    if not values:
        return
    zero = values.get("zero_optimization", {}) if isinstance(values, Mapping) else {}
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else None
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        raise ConfigError(f"trl.deepspeed.zero_optimization.stage: got {describe(stage)}, wanted 0, 1, 2 or 3.")
    if "LOCAL_RANK" not in os.environ and not is_installed("mpi4py"):
        raise ConfigError(
            "trl.deepspeed: DeepSpeed trains in processes that a launcher starts: use `accelerate launch` or `torchrun`"
            " before `-m difference_feedback`, or leave it out."
        )
