"""A repair model in this process, by transformers' `generate`. [DF, Eq. 5]"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback.data.conversations import Conversation
from difference_feedback.errors import ConfigError
from difference_feedback.method.masks import FloatArray
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.end_tokens import end_of, written_end
from difference_feedback.models.generate import SampledAnswer, generate_texts, stream_seed
from difference_feedback.models.load import load_model
from difference_feedback.models.outside_text import encode_text
from difference_feedback.models.prompt_lengths import PromptLengths, sizes_of
from difference_feedback.models.ranks import ranks
from difference_feedback.models.scoring import answer_logps
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.repair.projection import projected_repair
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate, template_for
from difference_feedback.repair.wrapping import unwrapped


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
        max_new_tokens: int | None = None,
        max_growth: float = 1.5,
        temperature: float = 0.7,
        batch_size: int = 64,
        style: str | RepairTemplate = "full",
        seed: int = 0,
        adapter_name: str | None = None,
        policy_tokenizer: Any = None,
        over_ranks: bool = False,
        speculate: bool | None = None,
    ) -> None:
        """The arguments whose names do not say it all:

        Args:
            max_new_tokens: of a repair. None takes the trainer's longest answer; without a trainer it is 512.
            max_growth: a repair is cut at this many times the longest draft of its call, plus 8 tokens. A longer one
                is not a small edit, and a batch takes as long as its longest member.
            policy_tokenizer: only where the policy's vocabulary is another one than the repair model's.
            over_ranks: all ranks ask for the same repairs, and share the work; see `models.generate.generate`.
            speculate: write several tokens in one pass, by speculation from the draft; see `models.speculation`. None
                does so where it is faster. The law of the repairs is the same.
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
        self.over_ranks = over_ranks
        self.speculate = speculate
        self.tally: Counter[str] = Counter()
        """Of the last call in this process: `tokens` written by speculation, and `passes`, each of one row."""
        self._open: set[str] = set()  # which of device and dtype a trainer may still choose

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        style: str | RepairTemplate | None = None,
        **settings: Any,
    ) -> "LocalRepairer":
        """Load `nano`, a folder, or a hub name, whole on every rank; `settings` are the constructor's.

        A `device` or `dtype` of None is that of the trainer to which the repairer is given. Without a trainer, it is
        this machine's accelerator and the checkpoint's type, or the CPU and float32. Without a `style`, the prompt is
        the one that the model was trained with, where the folder says so (see `save_template`).
        """
        model, processor = load_model(str(path), dtype=dtype or "auto", attention=attention, whole=True)
        repairer = cls(model.to(device or "cpu"), processor, style=style or template_for(path), **settings)
        repairer._open = {name for name, value in (("device", device), ("dtype", dtype)) if value is None}
        return repairer

    def adopt(self, device: torch.device, dtype: torch.dtype, max_new_tokens: int | None) -> None:
        """Take from a trainer what was left open. A model that was passed in stays where and as it is."""
        if self.max_new_tokens is None:
            self.max_new_tokens = max_new_tokens
        if "dtype" in self._open:
            for parameter in self.model.parameters():  # buffers keep their precision: rotary frequencies need it
                if parameter.is_floating_point():
                    parameter.data = parameter.data.to(dtype)
        if "device" in self._open:
            self.model.to(device)  # type: ignore[arg-type]
        self._open = set()

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return `num_samples` candidates for each request, in the order of the requests.

        Either all requests have seeds or none has. With seeds, a repair is cut by the length of its own draft.
        A request whose prompt does not fit into the model's context gets none.
        """
        drafts, conversations = self._prompts(requests)
        fitting = self._fitting(requests, conversations)
        if len(fitting) < len(requests):
            repaired = dict(zip(fitting, self.repair([requests[i] for i in fitting], num_samples), strict=True))
            return [repaired.get(i, []) for i in range(len(requests))]
        limits = self._limits(requests)
        self.tally.clear()
        seeds = [request.seed for request in requests if request.seed is not None]
        sampled = generate_texts(
            self.model,
            self.processor,
            conversations,
            [request.images for request in requests],
            max_new_tokens=max(limits, default=8),
            temperature=self.temperature,
            num_samples=num_samples,
            batch_size=self.batch_size,
            seed=stream_seed(self.seed, self.calls),
            seeds=[stream_seed(self.seed, seed) for seed in seeds] if seeds else None,
            adapter_name=self.adapter_name,
            over_ranks=self.over_ranks,
            proposals=[self._proposals(*pair) for pair in zip(requests, drafts, strict=True)],
            speculate=self.speculate,
            tally=self.tally,
        )
        self.calls += 1
        if seeds:  # a request's limit, too, is its own
            decode = self.processor.tokenizer.decode
            sampled = [
                [SampledAnswer(ids[:limit], decode(ids[:limit], skip_special_tokens=True)) for ids, _ in candidates]
                for candidates, limit in zip(sampled, limits, strict=True)
            ]
        return [
            [self._as_repair(answer, request, draft) for answer in candidates]
            for candidates, request, draft in zip(sampled, requests, drafts, strict=True)
        ]

    def _proposals(self, request: RepairRequest, draft: str) -> list[list[int]]:
        """What a repair will copy, as tokens of the repair model: the draft up to its end, parts of the reference."""
        tokenizer = self.processor.tokenizer
        ids = list(request.draft_ids) if self.policy_tokenizer is None else encode_text(tokenizer, draft)
        if not end_of(ids, tokenizer):
            ids.append(written_end(self.processor))
        return [ids, encode_text(tokenizer, request.reference or "")]

    def score(self, requests: Sequence[RepairRequest], temperature: float = 1.0) -> list[FloatArray | None]:
        """Log-probability of each draft token as the answer to its repair prompt, `(T,)`; see `DraftScorer`."""
        if self.policy_tokenizer is not None:
            raise ConfigError("policy_tokenizer: drafts in another model's tokens cannot be scored; leave it out.")
        conversations, config = self._prompts(requests)[1], self.model.config.get_text_config()
        rooms = [
            getattr(config, "max_position_embeddings", sys.maxsize) - len(request.draft_ids) for request in requests
        ]
        fits = self.lengths.fit(conversations, sizes_of(requests), rooms)
        # A vision token without an image, or an id that the model does not have, cannot be fed to it.
        never = vision_token_ids(self.model.config, self.processor.tokenizer)
        known = [all(0 <= k < config.vocab_size and k not in never for k in r.draft_ids) for r in requests]
        rows = [i for i in range(len(requests)) if fits[i] and known[i]]
        logps = answer_logps(
            self.model,
            self.processor,
            [conversations[i] for i in rows],
            [requests[i].images for i in rows],
            [requests[i].draft_ids for i in rows],
            temperature=temperature,
            batch_size=self.batch_size,
            adapter_name=self.adapter_name,
        )
        scored = dict(zip(rows, logps, strict=True))
        return [scored.get(i) for i in range(len(requests))]

    def _prompts(self, requests: Sequence[RepairRequest]) -> tuple[list[str], list[Conversation]]:
        """The drafts as texts, and the repair prompts with them."""
        if self._open:  # there is no trainer
            device = ranks().device
            self.adopt(device, torch.float32 if device.type == "cpu" else self.model.dtype, None)
        policy = self.policy_tokenizer or self.processor.tokenizer
        drafts = [policy.decode(request.draft_ids, skip_special_tokens=True) for request in requests]
        prompts = [self.prompt(r.prompt, draft, r.reference) for r, draft in zip(requests, drafts, strict=True)]
        return drafts, prompts

    def _limits(self, requests: Sequence[RepairRequest]) -> list[int]:
        """The longest repair of each request, in tokens."""
        return [min(self.max_new_tokens or 512, int(self.max_growth * len(r.draft_ids)) + 8) for r in requests]

    def _fitting(self, requests: Sequence[RepairRequest], prompts: Sequence[Conversation]) -> list[int]:
        """The requests whose prompts leave room for a repair in the model's context."""
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is None:
            return list(range(len(requests)))
        limits = self._limits(requests)
        if all(request.seed is None for request in requests):  # with seeds a request does not depend on the others
            limits = [max(limits, default=0)] * len(limits)
        fits = self.lengths.fit(prompts, sizes_of(requests), [context - limit for limit in limits])
        return [i for i, fit in enumerate(fits) if fit]

    def _as_repair(self, answer: SampledAnswer, request: RepairRequest, draft: str) -> Repair:
        ids, text = answer
        repair = unwrapped(text, draft, self.prompt.template.markers)
        if self.policy_tokenizer is None and (repair is None or repair == text.strip()):
            return Repair(ids, text, fault="wrapped" if repair is None else None)
        policy = self.policy_tokenizer or self.processor.tokenizer
        end = [written_end(policy)] if end_of(ids, self.processor.tokenizer) else []
        if repair is None or repair == text.strip():
            fault = "wrapped" if repair is None else None
            return Repair(encode_text(policy, text, frozenset(request.draft_ids)) + end, text, fault=fault)
        return projected_repair(request.draft_ids, repair, policy, end)
