"""Marks in a question's text: where the images and videos go, and tokens that must stay text."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Literal, NamedTuple

from difference_feedback.data.untrusted import OF_FAMILIES
from difference_feedback.errors import FieldError

MARK = re.compile(r"<(image|video)[ _]?(\d{0,9})>", re.IGNORECASE)
_BY_NAME = [token for token in chain.from_iterable(OF_FAMILIES.values()) if not MARK.fullmatch(token)]
_TOKENS = re.compile(
    "|".join([r"<(?=[|｜][^<>|｜\n]{1,40}[|｜]>)", *(f"{re.escape(t[0])}(?={re.escape(t[1:])})" for t in _BY_NAME)])
)


class Medium(NamedTuple):
    """What goes to a place of the text: an image or a video, by its place in the row."""

    kind: Literal["image", "video"]
    nth: int


def as_text(text: str) -> str:
    """`text` without tokens of models: a blank after the bracket makes `<|image_pad|>` or `<img>` plain text."""
    return _TOKENS.sub(lambda match: match[0] + " ", text)


def without_marks(text: str) -> str:
    """`text` without marks that a model or a host would fill: `<image 2>` becomes `[image 2]`."""
    return MARK.sub(lambda match: f"[{match[1].lower()} {match[2]}]".replace(" ]", "]"), text)


def place(
    question: str, images: Sequence[int], videos: int, unmarked_are_dropped: bool = False
) -> tuple[str, list[Medium]]:
    """The question with plain `<image>` and `<video>` marks, and what goes to each of them.

    `images` are the numbers by which marks name the row's images. Without marks, videos and images go first. Where
    `unmarked_are_dropped`, images without a mark are left out if others have one.

    A row with one image may have several marks `<image1>`, `<image2>`, ..., because the image shows several pictures
    (as in MathVision). The image then goes to the first mark, and the other marks become text such as `[picture 2]`.

    In a row with videos alone, `<image>` marks a video.

    Raises `FieldError` where marks and images do not fit.
    """
    kinds = {match[1].lower() for match in MARK.finditer(question)}
    if videos and not images and kinds == {"image"}:  # LLaVA-Video marks its films so
        question, kinds = MARK.sub(lambda match: f"<video{match[2]}>", question), {"video"}
    question = "<video>" * videos * ("video" not in kinds) + "<image>" * len(images) * ("image" not in kinds) + question
    numbers = [match[2] for match in MARK.finditer(question) if match[1].lower() == "image"]
    shows_several = len(images) == 1 and len(numbers) > 1 and all(numbers)
    media: list[Medium] = []
    seen = {"image": 0, "video": 0}

    def put(match: re.Match[str]) -> str:
        kind: Literal["image", "video"] = "image" if match[1].lower() == "image" else "video"
        nth = seen[kind]
        seen[kind] += 1
        if shows_several and kind == "image" and nth:
            return f"[picture {match[2]}]"
        names = range(1, videos + 1) if kind == "video" else [int(numbers[0])] if shows_several else images
        name = int(match[2]) if match[2] else names[nth] if nth < len(names) else 0
        if name not in names:
            raise _misfit(kind, seen_marks(kind), names)
        media.append(Medium(kind, list(names).index(name)))
        return f"<{kind}>"

    def seen_marks(kind: str) -> int:
        return sum(match[1].lower() == kind for match in MARK.finditer(question))

    text = MARK.sub(put, question)
    for kind, names in (("image", images), ("video", range(videos))):
        used = {medium.nth for medium in media if medium.kind == kind}
        if len(used) < len(names) and not (kind == "image" and unmarked_are_dropped):
            raise _misfit(kind, seen_marks(kind), names)
    return text, media


def _misfit(kind: str, marks: int, names: Sequence[int]) -> FieldError:
    listed = f" (by number {', '.join(map(str, names))})" if names else ""
    return FieldError(
        "question",
        f"it has {marks} marks <{kind}>, but the row {len(names)} {kind}s{listed}: mark each {kind} once.",
    )
