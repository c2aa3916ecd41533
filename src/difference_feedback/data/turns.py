"""Conversations in rows: what is asked, under which system message, and what was answered.

Four spellings are read: `role` and `content`, `from` and `value`, contents as text, and contents as a list of parts, as
OpenAI, Qwen and TRL write them. A conversation asks one question. The turn after it is its answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from difference_feedback.data.cells import Place, is_missing, read_text, text_in
from difference_feedback.errors import FieldError

_ROLES = {
    **{"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant"},
    "developer": "system",
}
_COLUMNS = ({"from", "value"}, {"role", "content"})
_INLINE = ("image", "image_url", "path", "url", "bytes", "base64", "video", "video_url")


@dataclass
class Turns:
    """One question and its answer; `inline` are the images and videos within the question, in order."""

    question: str = ""
    system: str | None = None
    answer: str | None = None
    inline: list[tuple[str, Place]] = field(default_factory=list)
    """For each mark in the question its kind and place in the row; an empty place where the mark stands alone."""


def read_turns(value: Any, place: Place) -> Turns:
    """The conversation that stands at `place` of a row.

    Raises `FieldError` for what is no conversation, for tools, and for several questions in one row.
    """
    field_name = str(place[0])
    messages = messages_in(value)
    if not isinstance(messages, list) or not messages or not all(isinstance(m, Mapping) for m in messages):
        raise FieldError(field_name, "no list of messages: give objects with role and content, or from and value.")
    turns, asked, in_columns = Turns(), 0, messages is not value and isinstance(value, Mapping)
    for i, message in enumerate(messages):
        role = message.get("role", message.get("from"))
        role = _ROLES.get(str(role).lower(), str(role).lower())
        key = "content" if "content" in message else "value"
        content = message.get(key)
        within = (*place, key, i) if in_columns else (*place, i, key)
        if role == "system":
            turns.system = _text(content, within, field_name, Turns()) or None
        elif role == "user":
            asked += 1
            if asked > 1:
                raise FieldError(field_name, "it has several questions: make a row of each question.")
            turns.question = _text(content, within, field_name, turns)
        elif role == "assistant" and not message.get("tool_calls"):
            turns.answer = _text(content, within, field_name, Turns()) if asked else None
        else:
            raise FieldError(field_name, f"a message of the role {role!r}: rows that use tools cannot be trained on.")
    if not asked:
        raise FieldError(field_name, "no message is a user's: give the question with the role user.")
    return turns


def messages_in(value: Any) -> Any:
    """The list of messages, which may be written as text, or as an object of lists: `{"from": [...], "value": [...]}`.

    A value that is neither is returned as it is.
    """
    read = read_text(value) if isinstance(value, str) else value
    if isinstance(read, Mapping) and any(names <= set(read) for names in _COLUMNS):
        columns = list(read.values())
        if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            return [dict(zip(read, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return read


def _text(content: Any, place: Place, field_name: str, turns: Turns) -> str:
    """The text of a message, with a mark for each image and video."""
    if is_missing(content):
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        if isinstance(content, Mapping):
            raise FieldError(field_name, "a message's content is an object: give a text or a list of parts.")
        return text_in(content, field_name)
    if content and all(isinstance(part, int | float) and not isinstance(part, bool) for part in content):
        return str(content)  # a box, or several numbers
    texts = []
    for i, part in enumerate(content):
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = str(part.get("type")) if isinstance(part, Mapping) else type(part).__name__
        if kind == "text":
            texts.append(str(part.get("text") or ""))
        elif kind in ("image", "image_url", "input_image", "video", "video_url"):
            kind = "video" if kind.startswith("video") else "image"
            key = next((key for key in _INLINE if not is_missing(part.get(key))), None)
            turns.inline.append((kind, (*place, i, key) if key else ()))
            texts.append(f"<{kind}>")
        else:
            raise FieldError(field_name, f"a part of the type {kind!r}: use text, image and video parts.")
    return "".join(texts)
