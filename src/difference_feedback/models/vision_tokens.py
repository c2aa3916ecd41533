"""Token ids that represent images and videos. A completion with such an id no longer matches its image features."""

import re
from collections.abc import Iterable
from typing import Any

CONFIG_NAMES = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "vision_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "boi_token_index",
    "eoi_token_index",
)
_VISION_NAME = re.compile(r"image|img|video|vision", re.IGNORECASE)


def vision_token_ids(config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of vision tokens: those in the model's configuration, and special tokens whose names say so.

    Without a configuration (None) there are the latter alone.
    """
    named = {getattr(config, name, None) for name in CONFIG_NAMES}
    special = {
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special and _VISION_NAME.search(str(token))
    }
    return frozenset(i for i in named if isinstance(i, int)) | special


def suppressed(generation_kwargs: dict[str, Any] | None, ids: frozenset[int]) -> list[int]:
    """The tokens that generation must never emit: the vision tokens, and those that the user suppresses."""
    return sorted(ids | set((generation_kwargs or {}).get("suppress_tokens") or ()))


def with_logit_bias(generation_kwargs: dict[str, Any] | None, ids: frozenset[int]) -> dict[str, Any]:
    """vLLM's sampling parameters: a bias against these tokens stands in for `suppress_tokens`, which vLLM lacks."""
    kwargs = dict(generation_kwargs or {})
    never = suppressed({"suppress_tokens": kwargs.pop("suppress_tokens", None)}, ids)
    return kwargs | {"logit_bias": (kwargs.get("logit_bias") or {}) | never_sampled(never)}


def never_sampled(ids: Iterable[int]) -> dict[int, float]:
    """vLLM's `logit_bias` against these tokens: its largest."""
    return dict.fromkeys(sorted(ids), -100.0)
