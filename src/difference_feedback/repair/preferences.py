"""Preference pairs whose preferred answer is a repair of the other: few edits, so that a mask has something to say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from difference_feedback.data.conversations import bare
from difference_feedback.errors import DataError
from difference_feedback.judges.questions import Grade
from difference_feedback.method.repairs import Repairer, RepairRequest, ask
from difference_feedback.method.selection import choose_repair
from difference_feedback.models.end_tokens import written_end
from difference_feedback.models.outside_text import encode_text


@dataclass(frozen=True)
class RepairedPreferences:
    """`rows` are those that got a feasible repair, `unrepaired` the others as they were; none is lost."""

    rows: list[dict[str, Any]]
    unrepaired: list[dict[str, Any]]


def repair_preferences(
    rows: Sequence[Mapping[str, Any]], repairer: Repairer, tokenizer: Any, grade: Grade, num_repairs: int = 2
) -> RepairedPreferences:
    """Put a repair of `rejected` in the place of `chosen`, which serves as its reference. [DF, Eqs. 5-7]

    Args:
        rows: conversations `prompt`, `chosen` and `rejected` as TRL's `DPOTrainer` takes them, `images` where there
            are any, and whatever `grade` reads. Only `chosen` is changed.
        tokenizer: the policy's.
        grade: whether a repair's text is a right answer to a row; other repairs are not taken.
        num_repairs: sampled for each row; the right one with the fewest edits is taken.

    Raises:
        DataError: a row without these fields, or an answer without text; it names the row and the field.
    """
    requests = [_request(number, row, tokenizer) for number, row in enumerate(rows)]
    answers = ask(repairer, requests, num_repairs)
    result = RepairedPreferences([], [])
    for row, request, candidates in zip(rows, requests, answers, strict=True):
        verdicts = [grade(row, candidate.text) for candidate in candidates]
        rewards = [None if verdict is None else float(verdict) for verdict in verdicts]
        choice = choose_repair(request.draft_ids, [candidate.token_ids for candidate in candidates], rewards)
        if choice is None:
            result.unrepaired.append(dict(row))
        else:
            repaired = [{"role": "assistant", "content": candidates[choice.index].text}]
            result.rows.append({**row, "chosen": repaired})
    return result


def _request(number: int, row: Mapping[str, Any], tokenizer: Any) -> RepairRequest:
    for name in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(name), list) or not row[name]:
            raise DataError(
                f"row {number}, field {name!r}: give a conversation, a list of messages with role and content."
            )
    try:
        prompt = bare(row["prompt"])
    except DataError as error:
        raise DataError(f"row {number}, {error}") from None
    places = sum(
        part["type"] == "image"
        for message in prompt
        if isinstance(message["content"], list)
        for part in message["content"]
    )
    images = list(row.get("images") or ())
    if places == 0 and images:  # TRL, too, puts images before the first question where the prompt has no place for them
        first = next((message for message in prompt if message["role"] == "user"), prompt[0])
        text = first["content"] if isinstance(first["content"], list) else [{"type": "text", "text": first["content"]}]
        first["content"] = [{"type": "image"} for _ in images] + text
    elif places != len(images):
        raise DataError(f"row {number}, field 'images': {len(images)} images for {places} places in the prompt.")
    draft = encode_text(tokenizer, _text(number, "rejected", row))
    return RepairRequest(prompt, images, [*draft, written_end(tokenizer)], _text(number, "chosen", row))


def _text(number: int, name: str, row: Mapping[str, Any]) -> str:
    content = row[name][-1]["content"]
    text = content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
    if not text.strip():
        raise DataError(f"row {number}, field {name!r}: the answer has no text; leave the row out.")
    return text
