"""Batched sampling from a vision-language model, which leaves the model and the random stream as they were.

The same model may be in training, or share its weights with one that is.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate.utils import gather_object
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, ProcessorMixin

from difference_feedback.data.conversations import Conversation, bare, fill_images
from difference_feedback.data.question import Question, without_images
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.models.end_tokens import end_ids
from difference_feedback.models.images_once import images_once
from difference_feedback.models.own_streams import OwnStreams, own_numbers
from difference_feedback.models.ranks import is_sharded, own_share, ranks
from difference_feedback.models.speculation import speculated, speculates
from difference_feedback.models.vision_tokens import vision_token_ids


def generate(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    conversations: Sequence[Conversation],
    images: Sequence[Sequence[Image.Image]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    num_samples: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    adapter_name: str | None = None,
    progress: str | None = None,
    over_ranks: bool = False,
    proposals: Sequence[Sequence[Sequence[int]]] | None = None,
    speculate: bool | None = None,
    tally: Counter[str] | None = None,
) -> list[list[list[int]]]:
    """Answer each conversation `num_samples` times; token ids in the order given, each with the token that ended it.

    Args:
        images: the images of each conversation, in the order of its image parts.
        max_new_tokens: an answer that reaches it has no such token.
        temperature: 0 answers greedily.
        batch_size: conversations at a time; each of them is sampled `num_samples` times in parallel.
        seed: of this call's own random streams, one a batch; torch's global stream is left where it was.
        seeds: of each conversation's own streams, one for each sample, in place of the call's (with `top_p=1` alone).
            Then an answer does not depend on the conversations beside it, but for the rounding of a padded batch.
        adapter_name: LoRA adapter to switch to for this call.
        progress: title of a progress bar; None shows none.
        over_ranks: all ranks make this call with the same arguments. Each answers a part of the batches, and all
            return all answers, which are those of a single rank. A model that is sharded over the ranks needs it.
        proposals: for each conversation, texts that its answers will copy with edits, likeliest first, as token ids.
            Then several tokens may be written in one pass; see `models.speculation`. The law of the answers is the
            same. Without `seeds`, each conversation then has streams of its own that start at `seed`.
        speculate: whether `proposals` are used. None: where that is faster; see `models.speculation.is_faster`. A
            model that is sharded over ranks is decoded plainly, with the same draws. False: as without `proposals`.
        tally: counts the `tokens` that this process has written by speculation, and the `passes`, each of one row.

    Raises:
        ConfigError: several samples at temperature 0, which would all be the same.
        DataError: a conversation whose image parts are not as many as its images.
    """
    refuse_equal_samples(temperature, num_samples)
    if not conversations:
        return []
    prompts = render_prompts(processor, conversations, images)
    config = _sampling(model, processor, max_new_tokens, temperature, top_p, num_samples)
    # Rows of like length share a batch, so that little of it is padding.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    share = own_share(len(batches), equally_many=is_sharded(model)) if over_ranks else range(len(batches))
    answers: dict[int, list[list[int]]] = {}
    with ExitStack() as stack:
        stack.enter_context(unchanged(model, adapter_name))
        stack.enter_context(images_once())
        shown = progress is not None and (not over_ranks or ranks().is_main_process)
        bar = stack.enter_context(progress_bar(transient=True, disable=not shown))
        task = bar.add_task(progress or "", total=sum(len(batches[i]) for i in share))
        for number in share:
            rows = batches[number]
            copied = None
            if proposals is not None and speculates(model, len(rows) * num_samples, speculate):
                copied = [proposals[i] for i in rows]
            own_seeds = None
            # So the draws of a batch do not depend on whether it speculates (with top_p = 1): several ranks draw what
            # one draws.
            streams = proposals is not None and speculate is not False and (copied is not None or top_p == 1)
            if temperature > 0 and (seeds is not None or streams):
                own_seeds = [stream_seed(seed, i) if seeds is None else seeds[i] for i in rows]
            part = [prompts[i] for i in rows], [images[i] for i in rows]
            with own_random_stream(model.device, seed if number == 0 else stream_seed(seed, number)):
                new = _generate_batch(model, processor, *part, config, own_seeds, copied, tally)
            answers |= {row: new[k * num_samples : (k + 1) * num_samples] for k, row in enumerate(rows)}
            bar.advance(task, len(rows))
    everywhere = dict(gather_object(list(answers.items()))) if over_ranks else answers
    return [everywhere[i] for i in range(len(prompts))]


def refuse_equal_samples(temperature: float, num_samples: int) -> None:
    """Raise `ConfigError` for several samples at temperature 0, which would all be the same."""
    if temperature == 0 and num_samples > 1:
        raise ConfigError(f"{num_samples} samples at temperature 0 are all the same: use a temperature above 0.")


class SampledAnswer(NamedTuple):
    """A sampled answer: its tokens, and its text without special tokens."""

    token_ids: list[int]
    text: str


@runtime_checkable
class Answerer(Protocol):
    """What may stand for a model wherever conversations are answered: a model behind a server, for example."""

    def answer(
        self,
        conversations: Sequence[Conversation],
        images: Sequence[Sequence[Image.Image]],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        num_samples: int = 1,
        batch_size: int = 64,
        seed: int = 0,
        progress: str | None = None,
        over_ranks: bool = False,
    ) -> list[list[SampledAnswer]]:
        """As `generate_texts`, with its own processor."""


def generate_texts(
    model: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    conversations: Sequence[Conversation],
    images: Sequence[Sequence[Image.Image]],
    **settings: Any,
) -> list[list[SampledAnswer]]:
    """`generate`, each answer with its text."""
    if isinstance(model, Answerer):
        return model.answer(conversations, images, **settings)
    sampled = generate(model, processor, conversations, images, **settings)
    decode = processor.tokenizer.decode
    return [[SampledAnswer(ids, decode(ids, skip_special_tokens=True)) for ids in answers] for answers in sampled]


def answer_questions(
    model: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    questions: Sequence[Question],
    *,
    from_text_alone: bool = False,
    **settings: Any,
) -> list[list[SampledAnswer]]:
    """Answer each question by its own prompt, or without its images. `settings` are those of `generate`."""
    prompts = [question.prompt for question in questions]
    images: list[Sequence[Image.Image]] = [question.images for question in questions]
    if from_text_alone:
        prompts, images = [without_images(prompt) for prompt in prompts], [()] * len(questions)
    return generate_texts(model, processor, prompts, images, **settings)


@contextmanager
def unchanged(model: PreTrainedModel, adapter_name: str | None = None) -> Iterator[None]:
    """Evaluation mode, and the adapter `adapter_name`; afterwards every module is in its former mode and state."""
    modes = [(module, module.training) for module in model.modules()]
    # Qwen's models keep the positions of the last prompt for the tokens that follow it.
    positions = [(module, module.rope_deltas) for module in model.modules() if hasattr(module, "rope_deltas")]
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        if adapter_name is None:
            yield
        else:
            from trl.trainer.utils import use_adapter  # adapters are TRL's alone; the verl host has no TRL beside it

            with use_adapter(model, adapter_name):  # type: ignore[arg-type]  # makes the adapter's weights trainable, and the others not
                yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, delta in positions:
            module.rope_deltas = delta
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)


@contextmanager
def own_random_stream(device: torch.device, seed: int) -> Iterator[None]:
    """Torch draws from a separate stream from `seed` on, on the CPU and on `device`; then it goes on as before."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    accelerator = torch.get_device_module(device)
    with torch.random.fork_rng(devices=[device], device_type=device.type), accelerator.device(device):
        torch.default_generator.manual_seed(seed)
        accelerator.manual_seed(seed)
        yield


def render_prompts(
    processor: ProcessorMixin, conversations: Sequence[Conversation], images: Sequence[Sequence[Image.Image]]
) -> list[str]:
    """The prompts as texts. Images are counted, not opened: all of a data set's would not fit into memory."""
    messages, anything = [], Image.new("RGB", (1, 1))
    for i, (conversation, row_images) in enumerate(zip(conversations, images, strict=True)):
        try:
            messages.append(bare(fill_images(conversation, [anything] * len(row_images))))
        except DataError as error:
            raise DataError(f"row {i}, {error}") from None
    rendered: Any = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return rendered


def prompt_inputs(processor: Any, prompts: list[str], images: Sequence[Sequence[Image.Image]]) -> Any:
    """What a model reads of rendered prompts, padded on the left, and of the images of each."""
    return processor(
        text=prompts,
        images=[list(of_row) for of_row in images] if any(images) else None,
        padding=True,
        padding_side="left",
        add_special_tokens=False,  # the chat template has put them
        return_tensors="pt",
    )


def with_answers(inputs: Any, answers: Sequence[Sequence[int]], pad_id: int) -> dict[str, Any]:
    """What a model reads of prompts, as `prompt_inputs` gives it, and of their answers behind them, padded on the
    right: the prompts' ends and the answers' starts meet.
    """
    width, device = max(map(len, answers)), inputs["input_ids"].device
    ids = torch.tensor([[*tokens, *[pad_id] * (width - len(tokens))] for tokens in answers], device=device)
    mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in answers], device=device)
    behind = {"input_ids": ids, "attention_mask": mask}
    behind |= {name: torch.zeros_like(ids) for name in ("mm_token_type_ids", "token_type_ids") if name in inputs}
    return dict(inputs) | {name: torch.cat([inputs[name], of_answers], dim=1) for name, of_answers in behind.items()}


def _sampling(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    num_samples: int,
) -> GenerationConfig:
    """All settings: `generate` would take those that are None from the checkpoint's own configuration."""
    tokenizer = processor.tokenizer
    neutral = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "return_dict_in_generate": False}
    sampled = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    sampled |= {"typical_p": 1.0, "min_p": 0.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_return_sequences=num_samples,
        eos_token_id=sorted(end_ids(tokenizer, model.generation_config)),
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=sorted(vision_token_ids(model.config, tokenizer)) or None,
        use_cache=True,
        disable_compile=True,
        **(neutral | (sampled if temperature > 0 else {"do_sample": False})),
    )


def _generate_batch(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    prompts: list[str],
    images: list[Sequence[Image.Image]],
    config: GenerationConfig,
    seeds: list[int] | None,
    copied: list[Sequence[Sequence[int]]] | None,
    tally: Counter[str] | None,
) -> list[list[int]]:
    inputs = prompt_inputs(processor, prompts, images).to(model.device)
    sizes: tuple[int, int] = (config.num_return_sequences, config.max_new_tokens)
    if copied is not None:
        numbers = None if seeds is None else own_numbers(seeds, *sizes)
        new_tokens = speculated(model, inputs, config, copied, numbers, tally=tally)
    else:
        draw = LogitsProcessorList()
        if seeds is not None:
            draw.append(OwnStreams(seeds, *sizes, config.temperature))
        # In a ZeRO-3 run, transformers would let the ranks wait for each other at every token, of a whole model too.
        sequences = model.generate(  # type: ignore[operator]
            **inputs, generation_config=config, logits_processor=draw, synced_gpus=is_sharded(model)
        )
        new_tokens = sequences[:, inputs["input_ids"].shape[1] :].tolist()
    return [_until_end(ids, config.eos_token_id) for ids in new_tokens]


def stream_seed(seed: int, number: int) -> int:
    """The seed of one random stream of many, unrelated to those of other numbers and other seeds."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint32)[0])


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    """`ids` up to the first end-of-sequence token, that one included; what follows is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]


def progress_bar(**settings: Any) -> Progress:
    """A bar with title, numbers and the remaining time. `settings` are those of rich's `Progress`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, **settings)
