"""Chat conversations about images, in two layouts: images inside the parts, or bare parts and a list of images."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from difference_feedback.errors import DataError

Conversation = list[dict[str, Any]]


def bare(messages: Sequence[Any]) -> Conversation:
    """The conversation alone: image parts without their images, text parts without other fields.

    Raises `DataError` for parts that are neither.
    """
    return [
        {
            "role": message["role"],
            "content": message["content"]
            if isinstance(message["content"], str)
            else [_bare_part(part) for part in message["content"]],
        }
        for message in messages
    ]


def _bare_part(part: Any) -> dict[str, str]:
    if part["type"] not in ("image", "text"):
        raise DataError(
            f"field 'prompt': a part has the type {part['type']!r}, which is not supported; use text and image parts."
        )
    return {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["text"]}


def split_images(prompt: Conversation) -> tuple[Conversation, list[Image.Image]]:
    """A conversation with images inside -> the conversation with bare image parts, and the images in order."""
    parts = [part for message in prompt if not isinstance(message["content"], str) for part in message["content"]]
    return bare(prompt), [part["image"] for part in parts if part["type"] == "image"]


def text_of(message: Any) -> str:
    """The text parts of a message, one a line."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def system_of(prompt: Sequence[Any]) -> str | None:
    """The system message of a conversation."""
    return text_of(prompt[0]) if prompt and prompt[0]["role"] == "system" else None


def marked_text(message: Any) -> str:
    """A message's text, with `<image>` in the place of each image part where `shown_marks` keeps it."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return shown_marks("".join("<image>" if part["type"] == "image" else part["text"] for part in content))


def shown_marks(question: str) -> str:
    """A marked question as people read it: without marks where all its images go first."""
    bare_text = question.strip()
    while bare_text.startswith("<image>"):
        bare_text = bare_text.removeprefix("<image>").lstrip()
    return question.strip() if "<image>" in bare_text else bare_text


def texts_of(completions: Sequence[Any]) -> list[str]:
    """The texts of completions as TRL gives them to a reward function: texts, or conversations that end with one."""
    return [completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions]


def fill_images(prompt: Conversation, images: Sequence[Image.Image]) -> Conversation:
    """A conversation with bare image parts and the images in order -> the conversation with the images inside.

    Plain text content becomes a text part, because chat templates of vision-language models need that. If the user's
    first message is plain text, all images go before it.

    Raises:
        DataError: the numbers of images and image parts differ.
    """
    filled: Conversation = []
    places, user_spoke = [], False
    for message in prompt:
        content = message["content"]
        if isinstance(content, str):
            first = message["role"] == "user" and not user_spoke
            content = [{"type": "image"} for _ in images if first] + [{"type": "text", "text": content}]
        user_spoke |= message["role"] == "user"
        parts = [dict(part) for part in content]
        places += [part for part in parts if part["type"] == "image" and "image" not in part]
        filled.append({**message, "content": parts})
    if len(places) != len(images):
        raise DataError(
            f"field 'images': there are {len(images)} images, but {len(places)} image parts in the prompt; give one "
            "image for each part"
        )
    for part, image in zip(places, images, strict=True):
        part["image"] = image
    return filled


def conversation(question: str, num_images: int) -> list[dict[str, Any]]:
    """A chat conversation of one turn: an image part for each image, then the question."""
    images: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_images)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": question}]}]


def placed_conversation(question: str, num_images: int) -> Conversation:
    """`marked_conversation` of a question that marks all its images, `conversation` of one that marks none."""
    marks = question.count("<image>") == num_images > 0
    return marked_conversation(question) if marks else conversation(question, num_images)


def with_system(prompt: Conversation, system: str | None) -> Conversation:
    """The conversation with a system message before it; without a `system`, as it is."""
    return prompt if system is None else [{"role": "system", "content": [{"type": "text", "text": system}]}, *prompt]


def marked_conversation(question: str) -> list[dict[str, Any]]:
    """A user's turn with an image part at every `<image>` of the question."""
    content: list[dict[str, Any]] = []
    for i, text in enumerate(question.split("<image>")):
        content += [{"type": "image"}] if i else []
        content += [{"type": "text", "text": text}] if text.strip() else []
    return [{"role": "user", "content": content}]


def stored_conversation(value: Any, num_images: int) -> Conversation:
    """A conversation from a file, in parts, once it is sure that it is a prompt with `num_images` images.

    Raises `DataError` that names the field `prompt`.
    """
    if not isinstance(value, list) or not value or not all(map(_is_message, value)):
        raise DataError(
            "field 'prompt': no conversation: give a list of messages with role and content, the content as text, or "
            "as parts of the type text and image"
        )
    if value[-1]["role"] != "user":
        raise DataError("field 'prompt': the last message is not the user's: drop what follows it")
    filled = fill_images(value, [Image.new("RGB", (1, 1))] * num_images)
    return bare(filled)


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    return isinstance(content, str) or (isinstance(content, list) and bool(content) and all(map(_is_part, content)))


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") == "image" or (part.get("type") == "text" and isinstance(part.get("text"), str))
