"""The tokens that end an answer. Which they are is the model's to say, not the tokenizer's `eos_token` alone.

Gemma 3 ends its turn with `<end_of_turn>`, GLM-4.1V with `<|user|>`, Idefics3 with `<end_of_utterance>`; their
`eos_token` is another one. Generation stops at every token that the model's generation configuration names.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

_ANSWER = "the answer"


def end_ids(tokenizer: Any, generation_config: Any = None) -> frozenset[int]:
    """The ids at which generation stops: `eos_token`, and those of the model's generation configuration."""
    configured = getattr(generation_config, "eos_token_id", None)
    named = [configured] if isinstance(configured, int) else list(configured or [])
    return frozenset({tokenizer.eos_token_id, *named} - {None})


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of the tokens that decoding without special tokens leaves out."""
    return frozenset(tokenizer.all_special_ids) | _added_special_ids(tokenizer, number_of_tokens(tokenizer))


def number_of_tokens(tokenizer: Any) -> int:
    """With added ones; 0 where the tokenizer does not say. It changes with the tokens, so it is a key of caches."""
    return len(tokenizer) if hasattr(tokenizer, "__len__") else 0


@lru_cache(maxsize=8)
def _added_special_ids(tokenizer: Any, size: int) -> frozenset[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})  # made anew at each call, of some thousands with Gemma
    return frozenset(i for i, token in added.items() if token.special)


def end_of(token_ids: Sequence[int], tokenizer: Any) -> list[int]:
    """The token that ends an answer; no token where it was cut short."""
    return [int(i) for i in token_ids[-1:] if int(i) in special_ids(tokenizer)]


def written_end(processor: Any, ends: Collection[int] = ()) -> int:
    """The end that the chat template puts after an answer, which is the one that a chat model learns to generate.

    `ends` are the ids that count; without them every special token does. A template that puts none after the last
    answer, as GLM-4.1V's, is asked for what follows an earlier one. Without a template it is `eos_token`.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    turns = [("user", "a question"), ("assistant", _ANSWER), ("user", "another question")]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    try:
        text = processor.apply_chat_template(messages, tokenize=False)
    except (ValueError, TypeError, TemplateError, AttributeError):  # no template, or one for plain texts
        return tokenizer.eos_token_id
    _, answer, rest = text.partition(_ANSWER)
    ends = ends or special_ids(tokenizer)
    after = tokenizer.encode(rest, add_special_tokens=False) if answer else []
    return next((i for i in after if i in ends), tokenizer.eos_token_id)
