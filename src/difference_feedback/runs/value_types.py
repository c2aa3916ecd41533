"""The kinds of values that the fields of recipes have, with their ranges. No number may be NaN or infinite."""

import os.path
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
ProblemCount = Annotated[int, Field(gt=0, le=1_000_000)]
"""Problems that are made, or drawn, before a run begins: all of them are in memory."""
NonNegativeInt = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=1e-12, lt=10.0)]
"""A learning rate. A smaller one moves no weight in float32; SGD may have one above 1."""
Seconds = Annotated[float, Field(gt=0.0, le=1e9)]


def _sampling_temperature(value: float) -> float:
    if 0 < value < 0.01:
        raise ValueError("0, which answers greedily, or at least 0.01: below it the logits overflow")
    return value


Temperature = Annotated[float, Field(ge=0.0, le=10.0), AfterValidator(_sampling_temperature)]


def _path_or_name(value: str) -> str:
    if not value.strip():
        raise ValueError("a path or a name, not an empty text")
    if value.startswith("~") and os.path.expanduser(value) == value:
        raise ValueError("a path whose user exists, or ./ before a name that begins with ~")
    if len(value.encode()) > 4000 or max(len(part.encode()) for part in value.split("/")) > 255:
        raise ValueError("a path whose names have at most 255 bytes")
    return value


PathOrName = Annotated[str, AfterValidator(_path_or_name)]
"""A path, or where a key says so a name on the hub."""


def base_url(value: str) -> str:
    """The value. Raises `ValueError` where it cannot be the base URL of a server."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets around no address
        usable = False
    if not usable or re.search(r"[\s\\\x00-\x20]", value):
        raise ValueError("a base URL such as http://127.0.0.1:8000/v1")
    return value


BaseURL = Annotated[str, AfterValidator(base_url)]
Concurrency = Annotated[int, Field(gt=0, le=4096)]
"""Requests, or answers, at the same time."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


def _gpus(value: Any) -> str:
    words = [str(item).strip() for item in value] if isinstance(value, list) else str(value).strip("[]").split(",")
    words = [word.strip() for word in words]
    if isinstance(value, bool) or not all(re.fullmatch(r"\d{1,3}|(?:GPU|MIG)-[\w/-]+", word) for word in words):
        raise ValueError('numbers of GPUs as in CUDA_VISIBLE_DEVICES, for example "6,7"')
    if len(set(words)) < len(words):
        raise ValueError("each GPU once")
    return ",".join(words)


GPUs = Annotated[str, BeforeValidator(_gpus)]
"""As in CUDA_VISIBLE_DEVICES: `"6,7"`."""


def _module_names(value: str | list[str]) -> str | list[str]:
    if not value or not all(value):
        raise ValueError("names of layers, at least one; leave it out for the language model's linear layers")
    try:
        re.compile(value if isinstance(value, str) else "")
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"a list of names, or a regular expression ({error})") from None
    return value


ModuleNames = Annotated[str | list[str], AfterValidator(_module_names)]
"""Names of a model's parts, or a regular expression of them."""
