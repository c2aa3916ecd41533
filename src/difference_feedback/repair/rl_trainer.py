"""TRL's GRPO for the repair model. The same batch also repairs each draft without its image. [DF, Eqs. 3-4]"""

from typing import Any

from accelerate.utils import gather_object

from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.trl.resume import ExactResume


class RepairGRPOTrainer(ExactResume):
    """`GRPOTrainer` that adds the rows of the blank-image factor to each batch that it generates."""

    blank_image_factor: BlankImageFactor | None = None
    _rows: list[dict[str, Any]]
    _blind: list[dict[str, Any]]
    _everything: tuple[Any, Any, Any]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rows = inputs
        return super()._generate_and_score_completions(inputs)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, Any, Any]:
        if self.blank_image_factor is None or not self.model.training:
            return super()._tokenize_prompts(prompts)
        self._blind = self.blank_image_factor.blind_rows(self._rows)
        ids, images, fields = super()._tokenize_prompts([*prompts, *(row["prompt"] for row in self._blind)])
        self._everything = ids, images, fields
        return ids[: len(prompts)], images and images[: len(prompts)], fields

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        factor, n = self.blank_image_factor, len(prompt_ids)
        if factor is None or not self.model.training:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
            )
        ids, all_images, fields = self._everything
        if self.use_vllm:  # vLLM takes prompts in groups of `num_generations` and makes its own batches
            answers, logprobs = super()._generate_single_turn(prompt_ids, images, fields, num_generations)
            # It divides what all ranks ask by their number, so copies of the last row make the ranks equal.
            rows = [*range(n, len(ids))] + [len(ids) - 1] * (max(gather_object([len(ids)])) - len(ids))
            images = [all_images[i] for i in rows] if all_images else None
            blind, _ = super()._generate_single_turn([ids[i] for i in rows], images, fields, 1)
            blind = blind[: len(ids) - n]
        else:
            everything, logprobs = super()._generate_single_turn(ids, all_images, fields, num_generations)
            answers, blind = everything[:n], everything[n:]
        texts = self._tokenizer.batch_decode(blind, skip_special_tokens=True)
        self._metrics["train"]["repair/blind_correct"].append(factor.observe(self._blind, texts, blind))
        return answers, logprobs
