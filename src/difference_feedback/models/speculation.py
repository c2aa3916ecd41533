"""Speculative decoding of texts that copy another one with edits: several tokens a pass, by the law of plain decoding.

The text to copy is the proposal. One pass scores a window of it. At every position the next token is drawn (or is the
likeliest, without sampling) as plain decoding would draw it; as long as it equals the proposal, the next position of
the window holds what plain decoding would compute, too. The first token that differs is written in the proposal's
place. For a proposal without a distribution that is speculative sampling's exact rule: a token is accepted with its own
probability, and otherwise drawn from the rest renormalised. [Y. Leviathan et al., arXiv 2211.17192, Alg. 1]

Each row draws its tokens by numbers of its own, one for each position of its answer. So an answer depends on neither
the windows nor the proposals nor the rows beside it, but for rounding: it is the answer that `OwnStreams` draws.

transformers' own assisted decoding and prompt lookup serve one row at a time.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from transformers import (
    DynamicCache,
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinPLogitsWarper,
    PreTrainedModel,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from difference_feedback.models.flops import count_generated
from difference_feedback.models.own_streams import DrawnByNumbers, drawn
from difference_feedback.models.proposals import Copying, window
from difference_feedback.models.ragged_cache import RaggedCache
from difference_feedback.models.ranks import is_sharded

_CONTEXT_FREE = (
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
    TopKLogitsWarper,
    MinPLogitsWarper,
)
_ENDS = MaxLengthCriteria, EosTokenCriteria
_LARGEST_LOGITS = 2**28
"""Numbers in the logits of one pass: 1 GiB in float32."""
_DRAWN_AT_A_TIME = 2**24
_CACHE_NAMES = "cache", "past_key_values"
_KINDS = "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids"


def speculated(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    config: GenerationConfig,
    texts: Sequence[Sequence[Sequence[int]]],
    numbers: torch.Tensor | None = None,
    *,
    fixed: float | None = None,
    tally: Counter[str] | None = None,
) -> list[list[int]]:
    """`model.generate(**inputs, generation_config=config)` of texts that copy others: the new tokens of each row.

    Args:
        inputs: of `B` prompts, padded on the left.
        config: with `num_return_sequences=K` each prompt has `K` rows in turn. Beams, penalties that read what is
            written already, and ends other than tokens and a length are not for this; such a call, and a model whose
            memory is more than keys and values in the order of the tokens, is decoded plainly, by the same law.
        texts: for each prompt, the texts that its rows will copy, likeliest first: token ids. Empty: no proposal.
        numbers: for each row the numbers in [0, 1) that draw its tokens, `(B * K, max_new_tokens)`; see
            `own_streams.own_numbers`. None takes the likeliest tokens, whatever `config.do_sample` says.
        fixed: what a pass costs besides its tokens, in tokens. By default `fixed_cost` of the model.
        tally: counts `tokens` written and `passes`, each of one row. Plain decoding is not counted.
    """
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    never = frozenset(config.suppress_tokens or ())
    possible = [[[i for i in text if 0 <= i < vocabulary and i not in never] for text in of_row] for of_row in texts]
    rows = [copy(row) for row in map(Copying, possible) for _ in range(config.num_return_sequences or 1)]
    fixed = fixed_cost(model) if fixed is None else fixed
    tally = Counter() if tally is None else tally
    decode = partial(_decode, rows=rows, numbers=numbers, fixed=fixed, tally=tally)
    result: list[list[int]] = model.generate(  # type: ignore[operator]
        **inputs, generation_config=config, custom_generate=decode
    )
    return result


def speculates(model: PreTrainedModel, rows: int, wanted: bool | None) -> bool:
    """Whether a batch of so many rows is decoded by speculation: as `wanted`, or by default where it is faster.

    A model that is sharded over ranks is not: its ranks take every pass together.
    """
    return not is_sharded(model) and (is_faster(model, rows) if wanted is None else wanted)


def is_faster(model: PreTrainedModel, rows: int) -> bool:
    """Whether speculation is faster than plain decoding of so many rows, by what was measured.

    It is where windows pay with one token in eight wrong: on an accelerator always (an estimate, not measured), on a
    CPU up to about 50 rows of the nano model, 24 of one with 10 million parameters, and 10 of large ones. With more
    rows a pass on a CPU is bound by arithmetic, of which speculation saves none.
    """
    text = Copying([[0] * 100])
    text.tried, text.right = 1000.0, 880.0
    return window([text] * rows, [99] * rows, fixed_cost(model), 99) > 0


def fixed_cost(model: PreTrainedModel) -> float:
    """What a pass costs besides its rows and tokens, in tokens: its start, and the reading of all weights.

    On a CPU as measured with one thread, at 0.4, 7 and 46 million parameters of the language model (39, 20 and 13
    tokens). Elsewhere an estimate: hundreds of tokens take hardly more time than one.
    """
    if model.device.type != "cpu":
        return 512.0
    return 10 + 20 / math.sqrt(max(sum(p.numel() for p in model.parameters()), 1) / 1e6)


def _decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    rows: list[Copying],
    numbers: torch.Tensor | None,
    fixed: float,
    tally: Counter[str],
    **model_kwargs: Any,
) -> list[list[int]]:
    """A decoding loop for `generate`, which has prepared what a loop needs. Returns each row's new tokens."""
    start, device = input_ids.shape[1], input_ids.device
    plain_rules = all(type(processor) in _CONTEXT_FREE for processor in logits_processor)
    plain_rules &= all(type(criterion) in _ENDS for criterion in stopping_criteria)
    if not plain_rules or not _can_take_back(model, model_kwargs):
        if numbers is not None:
            logits_processor = LogitsProcessorList([*logits_processor, DrawnByNumbers(numbers)])
        sequences = model._sample(input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)
        return [ids.tolist() for ids in sequences[:, start:]]

    writer = _Writer(
        rows, numbers, logits_processor, generation_config, start, model.config.get_text_config().vocab_size
    )
    name = next(name for name in _CACHE_NAMES if name in model_kwargs)
    cache = model_kwargs[name] = DynamicCache()  # which keeps all keys of layers with a sliding window, too
    mask = model_kwargs.pop("attention_mask", None)
    memory = RaggedCache(cache, torch.ones_like(input_ids).bool() if mask is None else mask.bool(), _slides(model))
    positions = model_kwargs.pop("position_ids")  # (B, T), or (parts, B, T)
    following = positions[..., -1:] + 1
    kinds = {kind: model_kwargs.pop(kind) for kind in _KINDS if model_kwargs.get(kind) is not None}

    # The first pass reads the prompt and the first window behind it.
    proposals = writer.proposals(fixed)
    width = max(map(len, proposals))
    window_ids = torch.tensor([ids + [0] * (width - len(ids)) for ids in proposals], dtype=torch.long, device=device)
    inputs = model.prepare_inputs_for_generation(
        torch.cat([input_ids, window_ids], dim=1),
        is_first_iteration=True,
        attention_mask=memory.attended([len(ids) for ids in proposals], width),
        position_ids=torch.cat([positions, following + torch.arange(width, device=device)], dim=-1),
        **model_kwargs
        | {kind: torch.cat([ids, ids[:, -1:].expand(-1, width)], dim=1) for kind, ids in kinds.items()}
        | {"logits_to_keep": width + 1},
    )
    logits = model(**inputs, return_dict=True).logits[:, -width - 1 :]
    counts = writer.write(logits, proposals)
    tally.update(tokens=sum(counts), passes=len(counts))
    memory.add([count - 1 for count in counts], width)

    settings = {key: value for key, value in model_kwargs.items() if not isinstance(value, torch.Tensor)}
    kinds = {kind: ids[:, -1:] for kind, ids in kinds.items()}
    del logits, inputs, model_kwargs  # the logits and the images are large
    while stay := writer.leave_finished():
        memory.keep(stay)
        if len(stay) < following.shape[-2]:
            index = torch.tensor(stay, device=device)
            following, kinds = following.index_select(-2, index), {kind: ids[index] for kind, ids in kinds.items()}
        proposals = writer.proposals(fixed)
        fed = [1 + len(ahead) for ahead in proposals]
        width = max(fed)
        places = torch.arange(width, device=device) + torch.tensor(writer.lengths(), device=device)[:, None] - 1
        inputs = model.prepare_inputs_for_generation(
            torch.tensor(writer.to_feed(proposals, width), device=device),
            next_sequence_length=width,
            attention_mask=memory.attended(fed, width),
            position_ids=following + places,
            **settings
            | {kind: ids.expand(-1, width) for kind, ids in kinds.items()}
            | {"logits_to_keep": width, name: cache},
        )
        logits = model(**inputs, return_dict=True).logits[:, -width:]
        counts = writer.write(logits, proposals)
        tally.update(tokens=sum(counts), passes=len(counts))
        memory.add(counts, width)
    return writer.written


def _slides(model: Any) -> bool:
    """Whether a layer has a sliding window."""
    text = model.config.get_text_config()
    layers = getattr(text, "layer_types", None)
    if layers:
        return "sliding_attention" in layers
    # `window_size` is GPT-Neo's name for it.
    return any(getattr(text, name, None) is not None for name in ("sliding_window", "window_size"))


def _can_take_back(model: Any, model_kwargs: Mapping[str, Any]) -> bool:
    """Whether a token can be taken back: the model's memory is keys and values alone, in the order of the tokens."""
    text = model.config.get_text_config()
    return (
        {"full_attention", "sliding_attention"}.issuperset(getattr(text, "layer_types", None) or ())
        and not (model.config.is_encoder_decoder or getattr(text, "cross_attention_layers", None))
        and not model._is_stateful
        and any(type(model_kwargs.get(name)) is DynamicCache for name in _CACHE_NAMES)
        and model_kwargs.get("position_ids") is not None
        and model_kwargs.get("inputs_embeds") is None
    )


class _Writer:
    """What the rows have written, and the rows that are still in the batch."""

    def __init__(
        self,
        rows: list[Copying],
        numbers: torch.Tensor | None,
        processors: LogitsProcessorList,
        config: GenerationConfig,
        start: int,
        vocabulary: int,
    ) -> None:
        self.rows = rows
        self.numbers = numbers
        self.processors = processors
        self.limit = config.max_length - start
        named = config.eos_token_id
        self.ends = frozenset([named] if isinstance(named, int) else named or ())
        self.written: list[list[int]] = [[] for _ in rows]
        self.batch = list(range(len(rows)))
        """The rows of the last pass."""
        self._most = _LARGEST_LOGITS // vocabulary

    def leave_finished(self) -> list[int]:
        """Take finished rows out of the batch; the places of the others in it."""
        stay = [place for place, row in enumerate(self.batch) if not self._finished(row)]
        self.batch = [self.batch[place] for place in stay]
        return stay

    def lengths(self) -> list[int]:
        """Tokens written by the rows of the batch."""
        return [len(self.written[row]) for row in self.batch]

    def proposals(self, fixed: float) -> list[list[int]]:
        """What each row of the batch proposes next."""
        rows = [self.rows[row] for row in self.batch]
        rest = [self.limit - length - 1 for length in self.lengths()]  # a pass writes one token more than is proposed
        available = [min(row.available, most) for row, most in zip(rows, rest, strict=True)]
        size = window(rows, available, fixed, self._most // len(rows) - 1)
        return [row.ahead(min(size, most)) for row, most in zip(rows, rest, strict=True)]

    def to_feed(self, proposals: Sequence[Sequence[int]], width: int) -> list[list[int]]:
        """The tokens of a pass, `(B, width)`: each row's last one, which no pass has read yet, and its proposals."""
        fed = [[self.written[row][-1], *ahead] for row, ahead in zip(self.batch, proposals, strict=True)]
        return [ids + ids[:1] * (width - len(ids)) for ids in fed]

    def write(self, logits: torch.Tensor, proposals: Sequence[Sequence[int]]) -> list[int]:
        """Write what the logits `(B, width, V)` give; how many tokens each row has written."""
        chosen = self._choose(logits)
        counts = []
        for row, tokens, ahead in zip(self.batch, chosen, proposals, strict=True):
            written, accepted = self.written[row], 0
            for token, proposed in zip(tokens, [*ahead, None], strict=False):
                written.append(token)
                if token != proposed or self._finished(row):
                    break
                accepted += 1
            self.rows[row].follow(written, accepted)
            counts.append(accepted + 1)
        if logits.shape[1] > 1:
            count_generated(sum(counts))
        return counts

    def _finished(self, row: int) -> bool:
        written = self.written[row]
        return len(written) >= self.limit or written[-1] in self.ends

    def _choose(self, logits: torch.Tensor) -> list[list[int]]:
        """The tokens that plain decoding would take at every place, `(B, width)`."""
        width, vocabulary = logits.shape[1:]
        numbers = None
        if self.numbers is not None:
            places = torch.tensor(self.lengths())[:, None] + torch.arange(width)
            numbers = self.numbers[torch.tensor(self.batch)[:, None], places.clamp(max=self.limit - 1)].flatten()
        chosen, size = [], max(1, _DRAWN_AT_A_TIME // vocabulary)
        for start in range(0, logits.shape[0] * width, size):
            part = logits.flatten(0, 1)[start : start + size].float()
            scores = self.processors(None, part)  # type: ignore[arg-type]  # none of them reads what is written
            chosen.append(scores.argmax(-1) if numbers is None else drawn(scores, numbers[start : start + size]))
        tokens: list[list[int]] = torch.cat(chosen).view(-1, width).tolist()
        return tokens
