"""Masks for pairs of answers from a file, without a model or a trainer. [DF, Eqs. 2, 8-9]

A row is `{"id", "wrong", "repaired"}`; both answers are texts, or both are lists of token ids. `"repaired"` may also be
called `"repair"`. A row may have a `"question"`, which is shown with the answers.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from typing import Any, Protocol, cast

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import MAX_TOKEN_ID, Alignment, AlignmentMethod, align, edit_cost
from difference_feedback.method.masks import FloatArray, Granularity, Side, step_ids, token_weights
from difference_feedback.method.token_texts import token_texts
from difference_feedback.runs.json_values import HALF_PAIR, is_unicode
from difference_feedback.runs.jsonl import Row, RowProblem
from difference_feedback.runs.renamed import repair_field

RawAnswer = str | list[int]

# A LaTeX command, one CJK or kana character, a run of letters and digits, or one sign of any other kind.
_WORD = re.compile(
    r"\\[A-Za-z]+|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    r"|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+|[^\w\s]"
)


@dataclass(frozen=True)
class Pair:
    """A checked pair of a wrong answer and its repair: both are texts, or both are token ids."""

    line: int
    id: str | int
    wrong: RawAnswer
    repair: RawAnswer
    question: str | None = None


@dataclass(frozen=True)
class Tokens:
    """An answer cut into tokens.

    `names` go into the output file. `texts` are shown to readers and include white space; None for bare ids.
    """

    ids: list[int]
    names: list[str] | list[int]
    cut: Callable[[], list[str]] | None

    @cached_property
    def texts(self) -> list[str] | None:
        """Made when they are asked for: most pairs are neither shown nor cut into steps."""
        return self.cut and self.cut()


@dataclass(frozen=True)
class MaskedPair:
    """A pair with its alignment and the weights of both sides."""

    pair: Pair
    wrong: Tokens
    repair: Tokens
    alignment: Alignment
    wrong_weights: FloatArray
    repair_weights: FloatArray

    def to_row(self) -> dict[str, Any]:
        """The row for the output file. Masks have the values 0 and 1; soft masks also have values between them."""
        row: dict[str, Any] = {"id": self.pair.id}
        if self.pair.question is not None:
            row["question"] = self.pair.question
        return row | {
            "wrong_tokens": self.wrong.names,
            "repaired_tokens": self.repair.names,
            "wrong_mask": _numbers(self.wrong_weights),
            "repaired_mask": _numbers(self.repair_weights),
            "edits": [edit._asdict() for edit in self.alignment.edits],
            "distance": self.alignment.distance,
            "edit_cost": edit_cost(self.alignment),
        }


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    def __len__(self) -> int: ...
    def __hash__(self) -> int: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: list[int]) -> str: ...


def pair_of(row: Row | RowProblem, vocabulary: int | None = None) -> Pair | list[RowProblem]:
    """The pair of a row, or what is wrong with it. Token ids must be below `vocabulary`."""
    if isinstance(row, RowProblem):
        return [row]
    line, values = row
    return list(_problems_of(line, values, vocabulary)) or Pair(
        line, values["id"], values["wrong"], values[repair_field(values)], values.get("question")
    )


def mask_pair(
    pair: Pair,
    tokenizer: Tokenizer | None = None,
    method: AlignmentMethod = "levenshtein",
    granularity: Granularity = "token",
    sigma: float | None = None,
    anchor_gaps: bool = True,
) -> MaskedPair:
    """Cut both answers into tokens, align them, and compute the weights of the tokens.

    Without a tokenizer, a text is cut into words, single signs, LaTeX commands and single CJK characters. White space
    separates them and is not compared. The options are those of `align` and `token_weights`.

    Raises:
        ConfigError: granularity is "step", but the answers are bare token ids, which have no sentences.
    """
    wrong, repair = _tokenize(pair, tokenizer)
    alignment = align(wrong.ids, repair.ids, method, anchor_gaps)

    def weigh(side: Side, tokens: Tokens) -> FloatArray:
        steps = None
        if granularity == "step":
            if tokens.texts is None:
                raise ConfigError(
                    'granularity is "step", but token ids alone have no sentences; give texts, or a tokenizer for the '
                    "token ids"
                )
            steps = step_ids(tokens.texts)
        return token_weights(alignment, side, granularity, steps, sigma)

    return MaskedPair(pair, wrong, repair, alignment, weigh("wrong", wrong), weigh("repair", repair))


def load_tokenizer(name: str) -> Tokenizer:
    """Load a tokenizer by path or hub name, from this machine if possible. Code that comes with it is never run.

    Raises:
        ConfigError: the tokenizer is neither on this machine nor on the hub.
    """
    from transformers import AutoTokenizer

    error: Exception | None = None
    for local_only in (True, False):
        try:
            return cast(
                Tokenizer, AutoTokenizer.from_pretrained(name, local_files_only=local_only, trust_remote_code=False)
            )
        except (OSError, ValueError, KeyError) as failure:  # not on this machine, not on the hub, or not a tokenizer
            error = failure
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ConfigError(
        f"tokenizer {name!r}: cannot be loaded ({reason}); give a folder that holds one, or a name on the hub"
    ) from None


def word_tokens(text: str) -> list[str]:
    """Cut a text into words and signs."""
    return _WORD.findall(text)


def word_texts(text: str) -> list[str]:
    """The `word_tokens` of a text with the white space before each."""
    ends = [match.end() for match in _WORD.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _tokenize(pair: Pair, tokenizer: Tokenizer | None) -> tuple[Tokens, Tokens]:
    wrong, repair = pair.wrong, pair.repair
    if tokenizer is not None:
        texts_of = _texts_of(tokenizer)

        def tokens(answer: RawAnswer) -> Tokens:
            ids = tokenizer.encode(answer, add_special_tokens=False) if isinstance(answer, str) else answer
            texts = texts_of(ids)
            return Tokens(ids, texts, lambda: texts)

        return tokens(wrong), tokens(repair)
    if isinstance(wrong, list) and isinstance(repair, list):
        return Tokens(wrong, wrong, None), Tokens(repair, repair, None)
    assert isinstance(wrong, str)
    assert isinstance(repair, str)
    words = word_tokens(wrong), word_tokens(repair)
    id_of = {word: i for i, word in enumerate(dict.fromkeys(chain(*words)))}
    first, second = (list(map(id_of.__getitem__, side)) for side in words)
    return Tokens(first, words[0], partial(word_texts, wrong)), Tokens(second, words[1], partial(word_texts, repair))


_texts_of = lru_cache(maxsize=1)(token_texts)


def _problems_of(line: int, values: dict[str, Any], vocabulary: int | None) -> Iterator[RowProblem]:
    repair = repair_field(values)
    checks: dict[str, Callable[[Any], str | None]] = {
        "id": _wrong_with_id,
        "wrong": lambda answer: _wrong_with_answer(answer, vocabulary),
        repair: lambda answer: _wrong_with_answer(answer, vocabulary),
    }
    answers_are_fine = True
    for field, check in checks.items():
        message = (
            check(values[field]) if field in values else "missing; give every row the fields id, wrong and repaired"
        )
        if message:
            answers_are_fine &= field == "id"
            yield RowProblem(line, field, message)
    if answers_are_fine and type(values["wrong"]) is not type(values[repair]):
        yield RowProblem(line, repair, "one answer is a text, the other is token ids; give both in the same form")
    question = values.get("question")
    if question is not None and (message := _wrong_with_text(question)):
        yield RowProblem(line, "question", message)


def _wrong_with_id(value: Any) -> str | None:
    if isinstance(value, str):
        return _wrong_with_text(value)
    return None if type(value) is int else f"the type is {type(value).__name__}; give a text or an integer"


def _wrong_with_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"the type is {type(value).__name__}; give a text"
    return None if is_unicode(value) else HALF_PAIR


def _wrong_with_answer(value: Any, vocabulary: int | None) -> str | None:
    if isinstance(value, str):
        return _wrong_with_text(value)
    if not isinstance(value, list):
        return f"the type is {type(value).__name__}; give a text or a list of token ids"
    largest = MAX_TOKEN_ID if vocabulary is None else vocabulary - 1
    if not value or ({*map(type, value)} == {int} and min(value) >= 0 and max(value) <= largest):
        return None
    for position, token in enumerate(value):
        if type(token) is not int or not 0 <= token <= largest:
            return f"token {position} is {str(token)[:40]!r}; give integers from 0 to {largest} as token ids"
    return None


def _numbers(weights: FloatArray) -> list[int] | list[float]:
    """Weights as JSON numbers; integers if all of them are 0 or 1."""
    if ((weights == 0) | (weights == 1)).all():
        return weights.astype(int).tolist()
    return [round(float(weight), 6) for weight in weights]
