"""Where tokens end in the text: one pass finds what decoding every prefix finds, with every kind of tokenizer."""

import random

import pytest
from architectures import BUILDERS, NAMES
from tokenizer_kinds import BYTES, KINDS, tokenizer_of
from transformers import PreTrainedTokenizerFast

from difference_feedback.models.end_tokens import special_ids
from difference_feedback.models.token_ends import decode, ends_by_prefix, token_ends

SIGNS = "the answer is 3.5. \r\n日本。é😀e\u0301👩‍👧\ufffd\t\u200b, isn't ▁ <0x41>größte"
ONE_PASS = [kind for kind in KINDS if kind != "ends_of_words"]


def drafts(tokenizer, count, seed=0):
    """Texts as the tokenizer cuts them, cut character by character, and ids in any order, all without special ones."""
    rng, special = random.Random(seed), special_ids(tokenizer)
    ordinary = [i for i in range(len(tokenizer)) if i not in special]
    bytes_ = [i for i in tokenizer.convert_tokens_to_ids(BYTES) if i in ordinary] or ordinary
    for k in range(count):
        text = "".join(rng.choices(SIGNS, k=rng.randint(0, 30)))
        if k % 4 == 0:
            ids = tokenizer.encode(text, add_special_tokens=False)
        elif k % 4 == 1:
            ids = [i for sign in text for i in tokenizer.encode(sign, add_special_tokens=False)]
        elif k % 4 == 2:
            ids = rng.choices(ordinary, k=rng.randint(0, 30))
        else:
            ids = rng.choices(bytes_, k=rng.randint(0, 6)) + rng.choices([*bytes_, *ordinary], k=rng.randint(0, 12))
        yield [i for i in ids if i not in special]


def same_as_by_prefix(tokenizer, count):
    for ids in drafts(tokenizer, count):
        text = decode(tokenizer, ids)
        assert token_ends(ids, text, tokenizer) == ends_by_prefix(ids, text, tokenizer), (ids, text)


@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_finds_what_decoding_every_prefix_finds(kind):
    same_as_by_prefix(tokenizer_of(kind), 300)


@pytest.mark.parametrize("name", NAMES)
def test_so_it_does_with_the_tokenizer_of_every_architecture(name):
    same_as_by_prefix(BUILDERS[name]().processor.tokenizer, 40)


@pytest.mark.parametrize("kind", ONE_PASS)
def test_no_prefix_is_decoded(kind, monkeypatch):
    """So the time grows with the length, not with its square."""
    tokenizer = tokenizer_of(kind)
    monkeypatch.setattr("difference_feedback.models.token_ends.ends_by_prefix", None)
    for ids in drafts(tokenizer, 40, seed=1):
        assert token_ends(ids, decode(tokenizer, ids), tokenizer)[0] == 0


def test_a_tokenizer_with_its_own_way_to_decode_is_asked():
    class Spelling(PreTrainedTokenizerFast):
        def _decode(self, token_ids, **options):
            return super()._decode(token_ids, **options) + "!" * (len(token_ids) % 3 == 0)

    same_as_by_prefix(Spelling(tokenizer_object=KINDS["byte_level"]()), 100)


def test_broken_characters_are_broken_as_the_decoder_breaks_them():
    """Every pair, and many longer sequences, of the bytes at which UTF-8 changes its rules."""
    tokenizer = tokenizer_of("byte_level")
    signs = [tokenizer.encode(chr(code), add_special_tokens=False) for code in range(256)]
    edges = [0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5]
    table = {sign: byte for byte, sign in _bytes_of(tokenizer).items()}
    assert len(table) == 256
    assert signs[0x41] == [table[0x41]]
    rng = random.Random(0)
    sequences = [(a, b) for a in edges for b in edges] + [rng.choices(edges, k=7) for _ in range(1500)]
    for sequence in sequences:
        ids = [table[byte] for byte in sequence]
        text = decode(tokenizer, ids)
        assert token_ends(ids, text, tokenizer) == ends_by_prefix(ids, text, tokenizer), sequence


def _bytes_of(tokenizer):
    """The id of each token that is one byte, with the byte."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {tokenizer.convert_tokens_to_ids(sign): byte for byte, sign in bytes_to_unicode().items()}
