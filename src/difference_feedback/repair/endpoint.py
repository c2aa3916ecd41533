"""Repair models behind servers: any OpenAI-compatible one, and vLLM's, which gives token ids. [DF, Eq. 5]"""

from collections.abc import Sequence
from typing import Any

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.repair.projection import project
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate
from difference_feedback.runs.sections import Endpoint


class EndpointRepairer:
    """Repairs come back as text and are projected onto the policy's tokens; see `projection` and `protocol.Repairer`.

    A request that fails for good has no candidates, which the trainer counts as missing; `client.usage` says how many
    did. On several ranks each asks for its own rows.
    """

    server_tokens = False

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: Any,
        *,
        style: str | RepairTemplate = "full",
        temperature: float = 0.7,
        max_growth: float = 1.5,
        seed: int = 0,
        client: ChatClient | None = None,
    ) -> None:
        """`tokenizer` is the policy's; `max_growth` as for `LocalRepairer`, on top of the endpoint's `max_tokens`."""
        self.endpoint = endpoint
        self.tokenizer = tokenizer
        self.prompt = RepairPrompt(style, tokenizer)
        self.temperature = temperature
        self.max_growth = max_growth
        self.seed = seed
        self.calls = 0
        self.client = client or ChatClient(endpoint)

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return up to `num_samples` candidates for each request, in the order of the requests.

        Raises `ConfigError` for several samples at temperature 0, which would all be the same, and which vLLM refuses.
        """
        if self.temperature == 0 and num_samples > 1:
            raise ConfigError(f"{num_samples} samples at temperature 0 are all the same: use a temperature above 0.")
        asked = [self._question(i, request, num_samples) for i, request in enumerate(requests)]
        self.calls += 1
        return [
            self._candidates(request, answer) for request, answer in zip(requests, self.client.ask(asked), strict=True)
        ]

    def _question(self, i: int, request: RepairRequest, num_samples: int) -> ChatRequest:
        draft = self.tokenizer.decode(request.draft_ids, skip_special_tokens=True)
        limit = int(self.max_growth * len(request.draft_ids)) + 8
        return ChatRequest(
            self.prompt(request.prompt, draft, request.reference),
            request.images,
            temperature=self.temperature,
            # Two calls and two rows draw apart, also where a cache is in between; a resumed run asks the same again.
            seed=(self.seed * 1_000_003 + self.calls * 65_537 + i) % 2**31,
            max_tokens=min(self.endpoint.max_tokens, limit),
            n=num_samples,
            token_ids=self.server_tokens,
        )

    def _candidates(self, request: RepairRequest, answer: ChatAnswer) -> list[Repair]:
        if answer.texts is None:
            return []
        return [self._projected(request, text, cut) for text, cut in zip(answer.texts, answer.truncated, strict=True)]

    def _projected(self, request: RepairRequest, text: str, truncated: bool) -> Repair:
        ids = project(request.draft_ids, text, self.tokenizer)
        end = [] if truncated else [self.tokenizer.eos_token_id]
        return Repair(ids + end, self.tokenizer.decode(ids, skip_special_tokens=True), projected=True)


class VLLMServerRepairer(EndpointRepairer):
    """A `vllm serve` of a repair model with the policy's tokenizer: token ids come back as they were sampled.

    TRL's `VLLMClient.chat` asks the same route in the same way; it needs vLLM beside the trainer, and this does not.
    """

    server_tokens = True

    def _candidates(self, request: RepairRequest, answer: ChatAnswer) -> list[Repair]:
        if answer.texts is None:
            return []
        if answer.token_ids is None:
            raise DataError(
                f"{self.endpoint.url} gives no token ids: vLLM 0.10 and newer do. For other servers set "
                "repairs.via=endpoint, which projects texts."
            )
        end = self.tokenizer.eos_token_id
        found = []
        for ids, text, cut in zip(answer.token_ids, answer.texts, answer.truncated, strict=True):
            found.append(Repair(ids if cut or ids[-1:] == [end] else [*ids, end], text))
        return found
