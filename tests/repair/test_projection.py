"""Texts put into the policy's tokens: they decode to the text, and what did not change keeps its tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from difference_feedback.repair.projection import project
from difference_feedback.world.nano import build_processor

CORPUS = [
    "The sum of 12 and 30 is 42, so the answer is 42.",
    "größer als 3 °C\n\nalso ja",
    "答案是 七 🙂 \t x = 5",
] * 20


def byte_level() -> PreTrainedTokenizerFast:
    """As the Qwen family's, of 400 tokens: many words take several, and many characters too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


BPE, NANO = byte_level(), build_processor().tokenizer
TEXTS = st.text(st.sampled_from("ab 1\n\tß°答🙂.,"), max_size=40) | st.sampled_from(CORPUS)


@settings(max_examples=300)
@given(TEXTS, TEXTS)
def test_bytes_decode_to_the_text_exactly(draft, repair):
    ids = project([*BPE.encode(draft), BPE.eos_token_id], repair, BPE)
    assert BPE.decode(ids) == repair
    assert BPE.eos_token_id not in ids


@given(TEXTS)
def test_an_unchanged_text_keeps_its_tokens_however_it_was_cut(text):
    one_by_one = [i for character in text for i in BPE.encode(character)]  # never what the tokenizer would do
    assert project(one_by_one, text, BPE) == one_by_one


def test_only_what_changed_is_tokenised():
    cut = [i for c in "The sum of 12 and 30 is " for i in BPE.encode(c)]
    draft = cut + BPE.encode("43")
    ids = project(draft, "The sum of 12 and 30 is 42", BPE)
    kept = [i for c in "The sum of 12 and 30 is" for i in BPE.encode(c)]
    assert ids[: len(kept)] == kept
    assert BPE.decode(ids) == "The sum of 12 and 30 is 42"


WORDS = st.lists(st.sampled_from(["3", "8", "plus", "is", "11", "answer", ".", "red"]), min_size=1, max_size=12)


@given(WORDS, WORDS)
def test_words_decode_to_the_words(draft, repair):
    ids = project(NANO.encode(" ".join(draft)), " ".join(repair), NANO)
    assert NANO.decode(ids).split() == NANO.decode(NANO.encode(" ".join(repair))).split()
    assert ids == NANO.encode(" ".join(repair))  # this tokenizer has one way to write a text


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_repair_without_words_is_kept(text):
    assert BPE.decode(project(BPE.encode("a b"), text, BPE)) == text
