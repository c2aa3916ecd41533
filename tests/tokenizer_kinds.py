"""A small tokenizer of every kind that models have, trained on the spot. `KINDS` names them all."""

from collections.abc import Callable
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LEARNED = ["the answer is 3 . so it is", "it is 4.5. So the sum", "no , 7 !"] * 3
WRONG = "the answer is 3.5. so it is 4。 ünd 日本。 no 😀. it is 7."
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        LEARNED, trainers.BpeTrainer(vocab_size=300, initial_alphabet=sorted(alphabet), show_progress=False)
    )
    return tokenizer


def byte_level_with_added() -> Tokenizer:
    """Added tokens are texts: of signs that stand for bytes, or of others, as a blank."""
    tokenizer = byte_level()
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False) for text in ("<think>", "das  größte", "ü", "日本", "ï¿½")]
    )
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As Llama 2's: a blank is put before a text and taken away from its decoded start."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.train_from_iterator(
        LEARNED, trainers.BpeTrainer(vocab_size=320, special_tokens=["<unk>", *BYTES], show_progress=False)
    )
    return tokenizer


def byte_fallback_ordinary() -> Tokenizer:
    """As Gemma's: bytes are no special tokens, and no blank is put before a text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    signs = ["<unk>", *BYTES, *sorted({*"".join(LEARNED).replace(" ", "▁"), "é", "日"}), "▁t", "th", "▁▁"]
    tokenizer.model = models.BPE(
        {sign: i for i, sign in enumerate(signs)},
        [("▁", "t"), ("t", "h"), ("▁", "▁")],
        byte_fallback=True,
        unk_token="<unk>",
    )
    return tokenizer


def byte_fallback_stripped() -> Tokenizer:
    """As Llama 2's, with bytes that are no special tokens."""
    tokenizer = byte_fallback_ordinary()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 2, 0)]
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    options = {"vocab_size": 60, "special_tokens": ["<unk>"], "unk_token": "<unk>", "show_progress": False}
    tokenizer.train_from_iterator([*LEARNED, WRONG], trainers.UnigramTrainer(**options))
    return tokenizer


def unigram_never_prepended() -> Tokenizer:
    tokenizer = unigram()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT's: its decoder takes blanks before signs away."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer.train_from_iterator(
        [*LEARNED, WRONG, "it's , don't"],
        trainers.WordPieceTrainer(vocab_size=90, special_tokens=["[UNK]"], show_progress=False),
    )
    return tokenizer


def word_level() -> Tokenizer:
    """Without a decoder, tokens are joined by blanks."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([*LEARNED, WRONG], trainer)
    return tokenizer


def ends_of_words() -> Tokenizer:
    """As CLIP's: the last token of a text is decoded in another way than the same token inside."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator([*LEARNED, WRONG], trainer)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    build.__name__: build
    for build in (
        byte_level,
        byte_level_with_added,
        byte_fallback,
        byte_fallback_ordinary,
        byte_fallback_stripped,
        unigram,
        unigram_never_prepended,
        word_piece,
        word_level,
        ends_of_words,
    )
}


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of that kind, as transformers wraps it."""
    return PreTrainedTokenizerFast(tokenizer_object=KINDS[kind]())
