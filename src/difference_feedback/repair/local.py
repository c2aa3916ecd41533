"""A repair model in this process, by transformers' `generate`. [DF, Eq. 5]"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.generate import SampledAnswer, generate_texts
from difference_feedback.models.load import load_model
from difference_feedback.models.prompt_lengths import PromptLengths
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate, template_for


class LocalRepairer:
    """Repairs wrong answers with a vision-language model; see `method.repairs.Repairer`.

    The model and torch's random stream are as before after each call, so it may be the policy itself, or share the
    policy's weights and have an adapter of its own (`adapter_name`). The same requests in the same order of calls give
    the same repairs; `calls` says how many there have been, and may be set when a run is resumed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        max_new_tokens: int = 512,
        max_growth: float = 1.5,
        temperature: float = 0.7,
        batch_size: int = 64,
        style: str | RepairTemplate = "full",
        seed: int = 0,
        adapter_name: str | None = None,
        policy_tokenizer: Any = None,
    ) -> None:
        """The arguments whose names do not say it all:

        Args:
            max_growth: a repair is cut at this many times the longest draft of its call, plus 8 tokens. A longer one
                is not a small edit, and a batch takes as long as its longest member.
            policy_tokenizer: only where the policy's vocabulary is another one than the repair model's.
        """
        self.model = model
        self.processor = processor
        self.max_new_tokens = max_new_tokens
        self.max_growth = max_growth
        self.temperature = temperature
        self.batch_size = batch_size
        self.prompt = RepairPrompt(style, processor)
        self.lengths = PromptLengths(processor, "the repair model")
        self.seed = seed
        self.calls = 0
        self.adapter_name = adapter_name
        self.policy_tokenizer = policy_tokenizer

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str | None = None,
        style: str | RepairTemplate | None = None,
        **settings: Any,
    ) -> "LocalRepairer":
        """Load `nano`, a folder, or a hub name; `settings` are the constructor's.

        Without a `style`, the prompt is the one that the model was trained with, where the folder says so (see
        `save_template`).
        """
        model, processor = load_model(str(path), dtype=dtype, attention=attention)
        return cls(model.to(device), processor, style=style or template_for(path), **settings)

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return `num_samples` candidates for each request, in the order of the requests.

        A request whose prompt does not fit into the model's context gets none.
        """
        fitting = self._fitting(requests)
        if len(fitting) < len(requests):
            repaired = dict(zip(fitting, self.repair([requests[i] for i in fitting], num_samples), strict=True))
            return [repaired.get(i, []) for i in range(len(requests))]
        policy = self.policy_tokenizer or self.processor.tokenizer
        conversations = [
            self.prompt(request.prompt, policy.decode(request.draft_ids, skip_special_tokens=True), request.reference)
            for request in requests
        ]
        longest = max((len(request.draft_ids) for request in requests), default=0)
        sampled = generate_texts(
            self.model,
            self.processor,
            conversations,
            [request.images for request in requests],
            max_new_tokens=min(self.max_new_tokens, int(self.max_growth * longest) + 8),
            temperature=self.temperature,
            num_samples=num_samples,
            batch_size=self.batch_size,
            seed=_stream(self.seed, self.calls),
            adapter_name=self.adapter_name,
        )
        self.calls += 1
        return [[self._as_repair(answer) for answer in candidates] for candidates in sampled]

    def _fitting(self, requests: Sequence[RepairRequest]) -> list[int]:
        """The requests whose prompts leave room for a repair in the model's context."""
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is None:
            return list(range(len(requests)))
        decode = (self.policy_tokenizer or self.processor.tokenizer).decode
        prompts = [
            self.prompt(request.prompt, decode(request.draft_ids, skip_special_tokens=True), request.reference)
            for request in requests
        ]
        sizes = [[(image.height, image.width) for image in request.images] for request in requests]
        longest = max((len(request.draft_ids) for request in requests), default=0)
        answer = min(self.max_new_tokens, int(self.max_growth * longest) + 8)
        fits = self.lengths.fit(prompts, sizes, context - answer)
        return [i for i, fit in enumerate(fits) if fit]

    def _as_repair(self, answer: SampledAnswer) -> Repair:
        ids, text = answer
        if self.policy_tokenizer is None:
            return Repair(ids, text)
        ended = bool(ids) and ids[-1] in self.processor.tokenizer.all_special_ids
        end = [self.policy_tokenizer.eos_token_id] if ended else []
        return Repair(self.policy_tokenizer.encode(text, add_special_tokens=False) + end, text)


def _stream(seed: int, call: int) -> int:
    """The seed of one call's random stream, unrelated to those of other calls and other seeds."""
    return int(np.random.SeedSequence((seed, call)).generate_state(1, np.uint32)[0])
