"""verl's data set with images that are opened when their row is taken: `data.custom_cls`."""

from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from difference_feedback.verl.stored_images import opened


class QuestionDataset(RLHFDataset):
    """Reads what `problems.write_questions` writes. Images are converted and scaled as on the other host."""

    def _build_messages(self, example: dict[str, Any], key: str) -> list[dict[str, Any]]:
        images = [opened(image) for image in example.get(self.image_key) or []]
        messages: list[dict[str, Any]] = super()._build_messages({**example, self.image_key: images}, key)
        return messages
