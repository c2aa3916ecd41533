"""A trainer's configuration, with what would fail once the model is loaded: optimiser, schedule, sampling, batches."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import GenerationConfig, Trainer, TrainingArguments, get_scheduler
from trl import GRPOConfig

from difference_feedback.errors import ConfigError, DataError, DifferenceFeedbackError
from difference_feedback.models.ranks import one_device
from difference_feedback.runs.trl_values import GENERATION
from difference_feedback.runs.validation import build_config, check_value, describe, nearest, shorten

C = TypeVar("C", bound=TrainingArguments)
_OF_THE_RUN = {
    "do_sample": "greedy answers to one question are all the same",
    "num_return_sequences": "give num_generations",
    "num_beams": "answers are sampled",
    "max_new_tokens": "give max_completion_length",
    "max_length": "give max_completion_length",
    "return_dict_in_generate": "the trainer reads token ids",
}
_OF_THE_OPTIMISER = ("optim", "optim_args", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon")
_OF_VALUES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_OF_LIBRARIES = (*_OF_VALUES, AssertionError, ImportError, NotImplementedError)
_NEEDS_MODEL = ("galore", "apollo", "lomo", "layerwise")  # optimisers that cannot be made without the model


def trainer_config(config_class: type[C], values: Mapping[str, Any], **fixed: Any) -> C:
    """`build_config` for a trainer of TRL on one device a process, whose settings a trainer can work with.

    The optimiser and the schedule are made once, for a parameter of their own. Raises `ConfigError` where they, or the
    sampling of answers, refuse their settings. Nothing is written.
    """
    config = one_device(build_config(config_class, values, source="trl", **fixed))
    with refused_settings(_named(values, _OF_THE_OPTIMISER)):
        optimiser = _optimiser(config)
    if config.lr_scheduler_kwargs and config.lr_scheduler_type in ("constant", "constant_with_warmup"):
        raise ConfigError("trl.lr_scheduler_kwargs: a constant learning rate takes no settings: leave it out.")
    if optimiser is not None:
        with refused_settings(_named(values, ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"))):
            steps = config.max_steps if config.max_steps > 0 else 1000
            schedule = get_scheduler(
                config.lr_scheduler_type,
                optimizer=optimiser,
                num_warmup_steps=config.get_warmup_steps(steps),
                num_training_steps=steps,
                scheduler_specific_kwargs=config.lr_scheduler_kwargs,  # type: ignore[arg-type]
            )
            _check_schedule(schedule, steps)
    if not torch.cuda.is_available():
        for key, needs_gpu in (
            ("activation_offloading", getattr(config, "activation_offloading", False)),
            ("cache_implementation", getattr(config, "cache_implementation", None) == "offloaded"),
        ):
            if needs_gpu:
                raise ConfigError(f"trl.{key}: this machine has no GPU to offload from: leave it out.")
    if isinstance(config, GRPOConfig):
        if not config.use_vllm:
            _check_sampling(config)
        if config.sync_ref_model and config.beta == 0.0:
            raise ConfigError("trl.sync_ref_model: without trl.beta there is no reference model: leave it out.")
    elif (loss := getattr(config, "loss_type", "nll")) not in ("nll", "dft"):
        raise ConfigError(f"trl.loss_type: {loss!r} is not possible with images: use nll or dft.")
    return config


@contextmanager
def refused_settings(place: str = "trl") -> Iterator[None]:
    """What a library raises inside about its settings becomes a `ConfigError` that begins with `place`."""
    try:
        yield
    except DifferenceFeedbackError:
        raise
    except _OF_LIBRARIES as error:
        raise ConfigError(f"{place}: {shorten(str(error), 500).rstrip('.')}: change or leave it out.") from error


def check_first_batch(rows: int, config: Any, what: str, key: str | None = None) -> None:
    """Raise where a GRPO trainer's data does not fill one batch: the trainer would end without a single step.

    `what` says what the rows are. `key` is the recipe's own key that sets their number: the error is then a
    `ConfigError`, else a `DataError`.
    """
    answers, group = config.generation_batch_size, config.num_generations
    needed = answers // group
    if rows >= needed:
        return
    batch = f"a batch of rollouts takes {needed} (trl.generation_batch_size {answers} / trl.num_generations {group})"
    if key is not None:
        raise ConfigError(
            f"{key}: {rows} {what}, and {batch}, so nothing would be trained: give {key}={needed} or more, or a "
            "smaller trl.generation_batch_size."
        )
    raise DataError(
        f"{rows} {what}; {batch}, so nothing would be trained: set a smaller trl.generation_batch_size, or get at "
        f"least {needed}."
    )


def _named(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Those of the keys that the recipe sets, for a message; all of them where it sets none."""
    return ", ".join(f"trl.{key}" for key in keys if key in values) or ", ".join(f"trl.{key}" for key in keys)


def _optimiser(config: TrainingArguments) -> torch.optim.Optimizer | None:
    try:
        optimiser, settings = Trainer.get_optimizer_cls_and_kwargs(config)
    except ValueError:
        if any(word in str(config.optim) for word in _NEEDS_MODEL):
            return None
        raise
    return optimiser([nn.Parameter(torch.zeros(2, 2, device=config.device))], **settings)


def _check_schedule(schedule: Any, steps: int) -> None:
    """The learning rates of a run of `steps` steps: numbers of at least 0, and not all of them 0."""
    factors = getattr(schedule, "lr_lambdas", None)
    if not factors:
        return
    places = sorted({*range(min(steps, 100)), *range(0, steps, max(1, steps // 100)), steps - 1, steps})
    rates = [factors[0](place) for place in places]
    if not all(isinstance(rate, int | float) and 0 <= rate < math.inf for rate in rates):
        raise ValueError("learning rates would be negative, infinite or no numbers")
    if steps > 1 and not any(rates[:-1]):  # a try of one step has the first rate of its warm-up
        raise ValueError(f"every learning rate of {steps} steps would be 0, so nothing would be trained")


def _check_sampling(config: GRPOConfig) -> None:
    """The settings of `generate`, those in `generation_kwargs` included, whose unknown names it would only note."""
    place = "trl.generation_kwargs"
    settings = config.generation_kwargs or {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{place}: got {describe(settings)}, wanted a mapping.")
    for name, value in settings.items():
        if name in _OF_THE_RUN:
            raise ConfigError(f"{place}.{name} is set by the run itself ({_OF_THE_RUN[name]}): leave it out.")
        if name not in GENERATION:
            raise ConfigError(
                f"{place}.{name}: no setting that shapes how answers are sampled.{nearest(name, GENERATION)}"
            )
        check_value(f"{place}.{name}", GENERATION[name], value)
    with refused_settings(f"trl.cache_implementation and {place}"):
        sampling = GenerationConfig(max_new_tokens=config.max_completion_length, do_sample=True)
        sampling.cache_implementation = config.cache_implementation
        sampling.update(**settings)
        sampling.validate()
