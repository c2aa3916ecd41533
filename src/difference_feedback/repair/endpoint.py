"""Repair models on servers: any OpenAI-compatible server, and vLLM, which also returns token ids. [DF, Eq. 5]"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.end_tokens import end_of, written_end
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.repair.projection import projected_repair
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate
from difference_feedback.repair.wrapping import unwrapped
from difference_feedback.runs.sections import Endpoint

UNREADABLE = Repair([], "", fault="unreadable")


class EndpointRepairer:
    """A `Repairer` whose repairs come as text and are projected onto the policy's tokens; see `projection`.

    What a chat model writes around its repair is taken off, or the repair is refused; see `wrapping`. Its text becomes
    plain tokens alone; see `outside_text`. What is no text is a refused candidate.

    A request that fails after all retries has no candidates, and the trainer counts its repair as missing;
    `client.usage` has the number of failures. With several ranks, each rank sends the requests for its own rows.
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
        """`tokenizer` is the policy's. `max_growth` is as in `LocalRepairer`; the endpoint's `max_tokens` holds too."""
        self.endpoint = endpoint
        self.tokenizer = tokenizer
        self.prompt = RepairPrompt(style, tokenizer)
        self.temperature = temperature
        self.max_growth = max_growth
        self.seed = seed
        self.calls = 0
        self.written_end = written_end(tokenizer)
        self.client = client or ChatClient(endpoint)
        vision = vision_token_ids(None, tokenizer) if self.server_tokens else ()
        self._vision = {i: tokenizer.convert_ids_to_tokens(i) for i in sorted(vision)}

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return up to `num_samples` candidates for each request, in the order of the requests.

        Raises `ConfigError` for several samples at temperature 0: all would be equal, and vLLM rejects the request.
        """
        if self.temperature == 0 and num_samples > 1:
            raise ConfigError(
                f"repairs.temperature is 0, so all {num_samples} samples would be equal: use a temperature above 0."
            )
        questions = [self._question(i, request, num_samples) for i, request in enumerate(requests)]
        self.calls += 1
        answers = self.client.ask(questions)
        return [self._candidates(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def _question(self, i: int, request: RepairRequest, num_samples: int) -> ChatRequest:
        draft = self.tokenizer.decode(request.draft_ids, skip_special_tokens=True)
        limit = int(self.max_growth * len(request.draft_ids)) + 8
        number = self.calls * 65_537 + i if request.seed is None else request.seed
        return ChatRequest(
            self.prompt(request.prompt, draft, request.reference),
            request.images,
            temperature=self.temperature,
            # Every call and row has its own seed, so that a cache never repeats a sample. A resumed run repeats them.
            seed=(self.seed * 1_000_003 + number) % 2**31,
            max_tokens=min(self.endpoint.max_tokens, limit),
            n=num_samples,
            token_ids=self.server_tokens,
            bad_words=list(self._vision.values()),  # a bias is refused by a server that speculates,
        )

    def _candidates(self, request: RepairRequest, answer: ChatAnswer) -> list[Repair]:
        if answer.texts is None:
            return []
        return [
            UNREADABLE if text is None else self._projected(request, text, cut)
            for text, cut in zip(answer.texts, answer.truncated, strict=True)
        ]

    def _projected(self, request: RepairRequest, text: str, truncated: bool) -> Repair:
        if not text.strip():
            return Repair([], "", fault="empty")
        repair = self._unwrapped(request, text)
        if truncated and (repair is None or text.rstrip().endswith(repair)):
            end = []
        else:
            end = end_of(request.draft_ids, self.tokenizer) or [self.written_end]
        candidate = projected_repair(request.draft_ids, text if repair is None else repair, self.tokenizer, end)
        return replace(candidate, fault="wrapped") if repair is None else candidate

    def _unwrapped(self, request: RepairRequest, text: str) -> str | None:
        draft = self.tokenizer.decode(request.draft_ids, skip_special_tokens=True)
        return unwrapped(text, draft, self.prompt.template.markers)


class VLLMServerRepairer(EndpointRepairer):
    """A repair model with the policy's tokenizer, served by `vllm serve`, which returns the token ids as sampled.

    TRL's `VLLMClient.chat` sends the same request, but needs vLLM installed beside the trainer; this class does not.
    """

    server_tokens = True
    _sends_ids = False
    """Whether an answer had token ids. A server that never sends any is the wrong one, which is an error."""

    def _candidates(self, request: RepairRequest, answer: ChatAnswer) -> list[Repair]:
        if answer.texts is None:
            return []
        if answer.token_ids is not None:
            self._sends_ids = True
        elif not self._sends_ids and None not in answer.texts:
            raise DataError(
                f"repairs.endpoint {self.endpoint.url}: the server returns no token ids. Use vLLM 0.10 or newer, or "
                "set repairs.via=endpoint, which works with texts."
            )
        rows = zip(answer.token_ids or [None] * len(answer.texts), answer.texts, answer.truncated, strict=True)
        return [self._sampled(request, ids, text, cut) for ids, text, cut in rows]

    def _sampled(self, request: RepairRequest, ids: list[int] | None, text: str | None, truncated: bool) -> Repair:
        if ids is None or text is None or not self._vision.keys().isdisjoint(ids):
            return UNREADABLE
        if self._unwrapped(request, text) != text.strip():
            return self._projected(request, text, truncated)
        return Repair(ids if truncated or end_of(ids, self.tokenizer) else [*ids, self.written_end], text)


def served_repairer(
    via: str, endpoint: Endpoint, tokenizer: Any, style: str | RepairTemplate | None, *, temperature: float, seed: int
) -> EndpointRepairer:
    """The repair model behind `endpoint`: `via` is `vllm`, or `endpoint` for any chat server. `full` is its style
    unless another is given."""
    kind = VLLMServerRepairer if via == "vllm" else EndpointRepairer
    return kind(endpoint, tokenizer, style=style or "full", temperature=temperature, seed=seed)
