"""Every row keeps its own images, whatever the model class and however many images its row has.

TRL 1.16 trains on rows of several images and on rows without. Four cases end in an error there, or in another row's
pixels, and are mended here:

- Rows with and without images in one batch. TRL marks a row without images by None, which processors of transformers 5
  refuse; an empty list is what they take. Micro-batches that happen to have no image at all then get empty pixels,
  which vision towers refuse. (huggingface/trl#5139 calls such batches supported.)
- Idefics3 and SmolVLM put pixels into one padded row for each sample. TRL tells this layout from one row for each
  image by comparing the number of images with that of the rows, so `[2, 0]` images in two rows are taken for the other.
- Rows with images on one rank, and rows without on another. A rank without images gets a blank one beside its rows.
- LLaVA-OneVision cuts an image into tiles only where it is the row's only one. Its forward pass learns this from
  `batch_num_images`, which TRL does not pass on.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from difference_feedback.errors import ConfigError
from difference_feedback.models.images_once import images_once
from difference_feedback.models.ranks import is_sharded
from difference_feedback.trl.blank_row import add_blank_row, blank_row

FORWARD_FIELDS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""What a model's forward pass reads besides ids and mask."""

PER_TOKEN_FIELDS = ("token_type_ids", "mm_token_type_ids")


class ImageRows(GRPOTrainer):
    """`GRPOTrainer` for batches whose rows have any number of images, none included."""

    model: Any
    _blank: dict[str, torch.Tensor] | None = None
    """The row that is added to micro-batches without images, where other ranks may have some."""

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with images_once():  # for rollouts, their log-probabilities and repairs
            return super()._prepare_inputs(generation_batch)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        outputs = list(super()._generate(prompts))
        if (images := outputs[_IMAGES]) is not None:
            outputs[_IMAGES] = [of_row or [] for of_row in images]
        return tuple(outputs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._lend_images(inputs)
        logs_images = self.log_multimodal
        self.log_multimodal = logs_images and self._blank is None
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self.log_multimodal = logs_images
        if logs_images and self._blank is not None:  # TRL gathers them on the ranks alone that have some
            logged: Any = self._logs["images"]
            logged.extend(gather_object([list(row.get("images") or []) for row in inputs]))
        return mark_padded_rows(batch)

    def _lend_images(self, rows: Sequence[dict[str, Any]]) -> None:
        """Ranks whose rows have images run the vision tower. The others would not, and all would wait for ever."""
        self._blank = None
        if self.accelerator.num_processes == 1:
            return
        with_images = gather_object([_has_images(row) for row in rows])
        if not any(with_images) or all(with_images):
            return
        self._blank = None if is_sharded(self.model) else blank_row(self.processing_class)
        if self._blank is None:
            raise ConfigError(
                f"field 'images': {with_images.count(False)} of {len(with_images)} rows of this batch have no image. "
                "Over several ranks that share the weights, or with this model's image processor, every row needs one, "
                "or none may have any: split the data set, or train on one rank."
            )

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        batch_num_images: Any = None,
        **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """TRL's own, over parts of `batch_size` rows, each with the pixels of its rows alone."""
        fields = mark_padded_rows({name: value for name, value in fields.items() if value is not None})
        batch_size, num_rows = batch_size or len(input_ids), len(input_ids)
        tiles_if_alone = getattr(self.model.config, "model_type", None) == "llava_onevision"
        parts: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]] = []
        for start in range(0, num_rows, batch_size):
            rows = range(start, min(start + batch_size, num_rows))
            part = fields if len(rows) == num_rows else select_rows(fields, rows)
            if not _has_pixels(part):
                part = {name: value for name, value in part.items() if name in PER_TOKEN_FIELDS}
            counted: Any = partial(model, batch_num_images=part["num_images"]) if tiles_if_alone and part else model
            ids, mask = input_ids[rows.start : rows.stop], attention_mask[rows.start : rows.stop]
            if self._blank is not None and "pixel_values" not in part:
                pad = self._tokenizer.pad_token_id
                ids, mask, part = add_blank_row(self._blank, ids, mask, part, logits_to_keep, pad)
            logps, entropies, loss = super()._get_per_token_logps_and_entropies(
                counted,
                ids,
                mask,
                logits_to_keep,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                **part,
            )
            parts.append((logps[: len(rows)], entropies if entropies is None else entropies[: len(rows)], loss))
        all_logps, all_entropies, losses = zip(*parts, strict=True)
        return (
            torch.cat(all_logps),
            torch.cat(all_entropies) if compute_entropy else None,
            torch.stack(losses).mean() if compute_aux_loss else None,
        )


_IMAGES = 6
"""Place of the images, one list a row, among what TRL's `_generate` returns."""


def _has_images(row: dict[str, Any]) -> bool:
    contents = [message["content"] for message in row["prompt"] if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return bool(row.get("images") or row.get("image")) or any(part.get("type") == "image" for part in parts)


def mark_padded_rows(batch: dict[str, Any]) -> dict[str, Any]:
    """Pixels in one padded row for each sample count as one image a row, so that TRL takes them row by row."""
    if batch.get("pixel_attention_mask") is None or batch.get("spatial_shapes") is not None:
        return batch
    return batch | {"num_images": [1] * len(batch["pixel_values"])}


def _has_pixels(part: dict[str, Any]) -> bool:
    pixels, attended = part.get("pixel_values"), part.get("pixel_attention_mask")
    return pixels is not None and len(pixels) > 0 and (attended is None or bool(attended.any()))


def select_rows(batch: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The rows of a TRL batch in a new order, repeats allowed, each with its own images' pixels."""
    index, split = list(rows), split_pixel_values_by_grid(batch)
    return unsplit_pixel_values_by_grid({key: _take(value, index) for key, value in split.items()})


def _take(value: Any, rows: list[int]) -> Any:
    if isinstance(value, torch.Tensor):
        return value[rows] if value.ndim else value
    return value if value is None else [value[row] for row in rows]
