"""The texts of tokens, from which steps are cut, with tokenizers of every family, and characters of several tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import WRONG, tokenizer_of
from transformers import PreTrainedTokenizerFast

from difference_feedback.method.masks import step_ids
from difference_feedback.method.token_texts import token_texts
from difference_feedback.report.mask_pairs import Pair, mask_pair

FAMILIES = {kind: tokenizer_of(kind) for kind in ("byte_level", "byte_fallback", "unigram")}


@pytest.fixture(params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return FAMILIES[request.param]


def test_the_texts_of_tokens_are_the_text(tokenizer):
    @settings(max_examples=60, deadline=None)
    @given(st.text(st.sampled_from("the 3.5 is.\n日。é😀\u0301 "), max_size=30))
    def law(text: str) -> None:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert "".join(token_texts(tokenizer)(ids)) == tokenizer.decode(ids)

    law()


@pytest.mark.parametrize("family", ["byte_level", "byte_fallback"])
def test_ids_in_any_order_have_as_many_texts(family):
    """As a policy may sample them: bytes that are no character."""
    tokenizer = FAMILIES[family]
    for seed in range(20):
        ids = np.random.default_rng(seed).integers(0, 259, 200).tolist()
        texts = token_texts(tokenizer)(ids)
        assert len(texts) == len(ids)
        assert abs(len("".join(texts)) - len(tokenizer.decode(ids))) < 20


def test_every_token_is_in_the_step_of_its_characters(tokenizer):
    """The tokenizer's own offsets say where a token stands in the text."""
    encoding = tokenizer(WRONG, add_special_tokens=False, return_offsets_mapping=True)
    ends = np.cumsum(
        [len(step) for step in ("the answer is 3.5. ", "so it is 4。 ", "ünd 日本。 ", "no 😀. ", "it is 7.")]
    )
    steps = step_ids(token_texts(tokenizer)(encoding["input_ids"]))
    for (start, end), step in zip(encoding["offset_mapping"], steps, strict=True):
        shown = WRONG[start:end]
        first = start + len(shown) - len(shown.lstrip()) if shown.strip() else start
        assert step == np.searchsorted(ends, first, side="right"), (shown, start)


def test_a_step_is_marked_and_not_the_whole_answer(tokenizer):
    pair = Pair(1, "a", WRONG, WRONG.replace("ünd", "ïnd"), None)
    result = mask_pair(pair, tokenizer, granularity="step")
    texts = np.array(token_texts(tokenizer)(result.wrong.ids))
    marked = "".join(texts[result.wrong_weights == 1])
    assert marked.strip() == "ünd 日本。"


def test_the_texts_of_a_long_answer_are_quick(tokenizer: PreTrainedTokenizerFast) -> None:
    """Work grows with the length, not with its square: the windows that are decoded do not."""
    decoded: list[int] = []

    class Counting:
        def decode(self, ids: list[int]) -> str:
            decoded.append(len(ids))
            return tokenizer.decode(ids)

    ids = tokenizer.encode(WRONG * 20, add_special_tokens=False)
    assert "".join(token_texts(Counting())(ids)) == tokenizer.decode(ids)
    assert sum(decoded) < 12 * len(ids)
