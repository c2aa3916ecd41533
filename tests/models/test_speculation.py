"""Speculation writes what plain decoding writes: token for token with the same numbers, and by the same law.

The oracle is transformers' own loop: greedy, with `OwnStreams`, and with the whole distribution enumerated.
"""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import pytest
import torch
from architectures import NAMES, mixed_rows
from scipy.stats import chisquare
from transformers import GenerationConfig, LogitsProcessorList, Qwen3Config, Qwen3ForCausalLM

from difference_feedback.models import generate as generating
from difference_feedback.models.flops import FlopMeter
from difference_feedback.models.generate import generate, unchanged
from difference_feedback.models.load import load_model
from difference_feedback.models.own_streams import OwnStreams, own_numbers
from difference_feedback.models.proposals import Copying, window
from difference_feedback.models.speculation import speculated

LIMIT = 14
SAMPLED = {"temperature": 0.7, "num_samples": 2, "seeds": [11, 12, 13, 14]}


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return load_model(str(architectures.save(request.param, tmp_path_factory.mktemp(request.param))))


def edited(ids: list[int], kind: str) -> list[list[int]]:
    """Texts from which `ids` arises by edits of that kind: each row has its own, of another length."""
    end = ids[-1]
    return {
        "right": [ids],
        "longer than the limit": [ids + [7, 8, 9] * LIMIT],
        "substitutions": [[i if n % 4 else i + 1 for n, i in enumerate(ids)]],
        "insertion": [ids[:3] + ids[4:]],
        "deletion": [ids[:2] + [9, 9, 8] + ids[2:]],
        "two edits": [ids[:2] + [9] + ids[2:6] + ids[8:]],
        "end inside": [ids[:4] + [end] + ids[4:]],
        "only in the second": [[9, 9], ids],
        "wrong": [[9] * 30],
        "empty": [],
        "odd ids": [[10**9, -1, *ids]],
    }[kind]


KINDS = list(edited([1], "right") and ["right", "longer than the limit", "substitutions", "insertion", "deletion"])
KINDS += ["two edits", "end inside", "only in the second", "wrong", "empty", "odd ids"]


def rows_of(plain: list[list[list[int]]], first: int) -> list[list[list[int]]]:
    """Proposals of another kind for each row."""
    return [edited(answers[0], KINDS[(first + row) % len(KINDS)]) for row, answers in enumerate(plain)]


@pytest.mark.parametrize("settings", [{"temperature": 0}, SAMPLED], ids=["greedy", "sampled"])
def test_every_architecture_writes_what_it_writes_plainly(loaded: tuple[Any, Any], settings: dict[str, Any]) -> None:
    """Rows with other images, other drafts and other lengths in one batch; and each of them alone."""
    model, processor = loaded
    call = model, processor, *mixed_rows()
    plain = generate(*call, max_new_tokens=LIMIT, **settings)
    passes = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    for first in (0, 4, 8):
        passes.clear()
        texts = rows_of(plain, first)
        assert generate(*call, max_new_tokens=LIMIT, proposals=texts, speculate=True, **settings) == plain
    passes.clear()
    right = [edited(answers[0], "right") for answers in plain]
    assert generate(*call, max_new_tokens=LIMIT, proposals=right, speculate=True, batch_size=1, **settings) == plain
    hook.remove()
    if not settings["temperature"]:
        assert len(passes) == 4, "one pass for each row, whose draft is right"
