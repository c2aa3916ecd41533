"""What TRL's vLLM path lacks for questions on images: prompts as vLLM reads them, and no vision tokens in answers.

TRL 1.16 gives the engine in its own process (`vllm_mode: colocate`) the prompt with one image token for each patch, as
the model reads it. vLLM puts the image's tokens into the prompt itself and does so once more: the prompt then has
tokens too many, and sampled answers have other probabilities than the trainer's. [huggingface/trl#6294]
`vllm_mode: server` is not affected. vLLM also has no `suppress_tokens`; a bias on the logits does the same.
"""

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from difference_feedback.models.vision_tokens import vision_token_ids, with_logit_bias


class VLLMSampling(GRPOTrainer):
    """`GRPOTrainer` that samples answers to questions on images by vLLM. Without `use_vllm` it changes nothing."""

    args: GRPOConfig
    processing_class: Any
    _bare_prompts: dict[tuple[int, ...], list[int]]
    """The prompts of a generation step, as the model reads them -> as vLLM reads them, one token an image."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._bare_prompts = {}
        super().__init__(*args, **kwargs)
        if self.use_vllm:
            settings: Any = self.args.generation_kwargs
            vision = vision_token_ids(self.accelerator.unwrap_model(self.model).config, self._tokenizer)
            self.vllm_generation.generation_kwargs = with_logit_bias(settings, vision)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, Any, Any]:
        ids, images, fields = super()._tokenize_prompts(prompts)
        if self.use_vllm and self.vllm_mode == "colocate" and images is not None:
            bare = self._without_expansion(prompts)
            self._bare_prompts = {tuple(full): short for full, short in zip(ids, bare, strict=True)}
        return ids, images, fields

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.use_vllm:
            prompt_ids = [self._bare_prompts.get(tuple(ids), ids) for ids in prompt_ids]
        generated: tuple[Any, Any] = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        return generated

    def _without_expansion(self, prompts: list[Any]) -> list[list[int]]:
        template_settings: Any = self.chat_template_kwargs
        texts = self.processing_class.apply_chat_template(
            prompts,
            tools=self.tools or None,
            chat_template=self.chat_template,
            add_generation_prompt=True,
            tokenize=False,
            **template_settings,
        )
        start = self._tokenizer.bos_token
        special = not (start and texts[0].startswith(start))  # as processors decide it
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=special)["input_ids"]
        return ids
