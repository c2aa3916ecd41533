"""How many tokens prompts have, those of their images included, before a model is loaded; and which prompts fit.

Images are counted by their sizes. `_get_num_multimodal_tokens`, which most processors have for this, is compared with
the processor itself on images of several sizes; where the two differ, or where it is missing, the processor is run once
for each size. A prompt with several images is counted by running the processor where its images do not simply add up.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from jinja2 import TemplateError
from PIL import Image

from difference_feedback.data.conversations import Conversation
from difference_feedback.data.pictures import LazyImages, Size
from difference_feedback.errors import ConfigError

_TRIED = 4  # sizes, and prompts with several images, for which quick counts are compared with the processor


class WithImages(Protocol):
    @property
    def images(self) -> Sequence[Image.Image]: ...


def sizes_of(rows: Iterable[WithImages]) -> list[list[Size]]:
    """The sizes of each row's images, in their order. Images that are opened when needed are not opened for this."""
    return [_sizes(row.images) for row in rows]


def _sizes(images: Sequence[Image.Image]) -> list[Size]:
    return images.sizes if isinstance(images, LazyImages) else [(image.height, image.width) for image in images]


class PromptLengths:
    """Counts tokens as a processor makes them. `name` is the model's, for messages."""

    def __init__(self, processor: Any, name: str) -> None:
        self.processor, self.name = processor, name
        self._by_size: dict[Size, int] = {}
        self._offset: int | None = None
        """What an image takes besides the processor's own number, once that was found to hold for all sizes tried."""

    def count(self, prompts: Sequence[Conversation], sizes: Sequence[Sequence[Size]]) -> list[int]:
        """The length of each prompt. Its image parts are as many as its `sizes`.

        Raises `ConfigError` where the chat template refuses a conversation, or leaves out its system message.
        """
        texts = [self._rendered(prompt) for prompt in prompts]
        lengths = np.array(self._text_lengths(texts), dtype=int)
        self._learn({size for of_prompt in sizes for size in of_prompt})
        lengths += [sum(self._by_size[size] for size in of_prompt) for of_prompt in sizes]
        several = [i for i, of_prompt in enumerate(sizes) if len(of_prompt) > 1]
        tried = several[:: max(1, len(several) // _TRIED)][:_TRIED]
        exact = {i: self._run(texts[i], sizes[i]) for i in tried}
        if any(exact[i] != lengths[i] for i in tried):
            exact = {i: exact.get(i) or self._run(texts[i], sizes[i]) for i in several}
        for i, length in exact.items():
            lengths[i] = length
        return [int(length) for length in lengths]

    def fit(self, prompts: Sequence[Conversation], sizes: Sequence[Sequence[Size]], rooms: Sequence[int]) -> list[bool]:
        """Whether each prompt has no more tokens than its room. Text is tokenised only where it might not."""
        self._learn({size for of_prompt in sizes for size in of_prompt})
        bytes_of_text = [len(self._rendered(prompt).encode()) for prompt in prompts]
        of_images = [sum(self._by_size[size] for size in of_prompt) for of_prompt in sizes]
        most = (text + images for text, images in zip(bytes_of_text, of_images, strict=True))
        if all(length <= room for length, room in zip(most, rooms, strict=True)):
            return [True] * len(prompts)
        return [length <= room for length, room in zip(self.count(prompts, sizes), rooms, strict=True)]

    def _rendered(self, prompt: Conversation) -> str:
        try:
            text = self.processor.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            key = "system_prompt" if prompt[0]["role"] == "system" else "model"
            raise ConfigError(
                f"{key}: the chat template of {self.name} refuses the conversation ({error}). "
                + ("Leave it out, or put its text into format_prompt." if key == "system_prompt" else "")
            ) from error
        if prompt[0]["role"] == "system":
            wanted = prompt[0]["content"][0]["text"] if isinstance(prompt[0]["content"], list) else prompt[0]["content"]
            if " ".join(wanted.split()) not in " ".join(text.split()):
                raise ConfigError(
                    f"system_prompt: the chat template of {self.name} leaves the system message out: leave it out too, "
                    "or put its text into format_prompt."
                )
        return str(text)

    def _text_lengths(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self.processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def _learn(self, sizes: set[Size]) -> None:
        """Fill `_by_size` for these sizes."""
        new = sorted(sizes - set(self._by_size), key=lambda size: (size[0] * size[1], size))
        if not new:
            return
        quick = self._quick(new)
        if self._offset is not None and quick:
            self._by_size |= {size: number + self._offset for size, number in quick.items()}
            return
        tried = sorted({round(i * (len(new) - 1) / max(_TRIED - 1, 1)) for i in range(_TRIED)})
        exact = {new[i]: self._of_image(new[i]) for i in tried}
        offsets = {exact[size] - quick[size] for size in exact if size in quick}
        if quick and len(offsets) == 1:
            offset = offsets.pop()
            self._offset = offset if len(tried) == _TRIED else None
            self._by_size |= {size: quick[size] + offset for size in new}
        else:
            self._by_size |= {size: exact[size] if size in exact else self._of_image(size) for size in new}

    def _quick(self, sizes: list[Size]) -> dict[Size, int]:
        if not hasattr(self.processor, "_get_num_multimodal_tokens"):
            return {}
        try:
            counted = self.processor._get_num_multimodal_tokens(image_sizes=[list(size) for size in sizes])
            return dict(zip(sizes, map(int, counted["num_image_tokens"]), strict=True))
        except (AttributeError, KeyError, TypeError, ValueError):
            return {}

    def _of_image(self, size: Size) -> int:
        """The tokens that the processor puts in the place of one image, besides the template's own mark."""
        text = self._rendered([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}])
        return self._run(text, [size]) - self._text_lengths([text])[0]

    def _run(self, text: str, sizes: Sequence[Size]) -> int:
        """The length of a rendered prompt by the processor itself, with blank images."""
        images = [Image.new("RGB", (width, height), "white") for height, width in sizes]
        options = {"add_special_tokens": False, "return_tensors": "pt"}
        inputs = self.processor(text=[text], images=[images] if images else None, **options)
        return int(inputs["input_ids"].shape[1])
