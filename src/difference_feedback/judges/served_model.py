"""A recipe's own model behind a vLLM server: it answers where a model in this process would."""

from collections.abc import Sequence

from PIL import Image

from difference_feedback.data.conversations import Conversation
from difference_feedback.errors import DataError
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.models.generate import SampledAnswer, refuse_equal_samples
from difference_feedback.models.processor import load_config, load_processor
from difference_feedback.models.ranks import ranks, shared_work
from difference_feedback.models.vision_tokens import never_sampled, vision_token_ids
from difference_feedback.runs.sections import PolicyEndpoint
from difference_feedback.runs.servers import named


class ServedModel:
    """See `models.generate.Answerer`. Greedy answers are those of transformers, up to rounding; samples differ."""

    def __init__(self, endpoint: PolicyEndpoint, model: str) -> None:
        """`model` is its folder or hub name, whose configuration and processor are loaded, and no weights."""
        self.processor = load_processor(model)
        served = named(endpoint, model)
        assert served is not None
        self.client = ChatClient(served)
        self._bias = never_sampled(vision_token_ids(load_config(model), self.processor.tokenizer))

    def answer(
        self,
        conversations: Sequence[Conversation],
        images: Sequence[Sequence[Image.Image]],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        num_samples: int = 1,
        batch_size: int = 64,
        seed: int = 0,
        progress: str | None = None,
        over_ranks: bool = False,
    ) -> list[list[SampledAnswer]]:
        """Answers in the order of the conversations. The endpoint's `concurrency` stands in for `batch_size`.

        Raises:
            ConfigError: several samples at temperature 0, which would all be the same.
            DataError: a conversation that got no answer, after all retries, or a server that sends no token ids.
        """
        refuse_equal_samples(temperature, num_samples)
        requests = [
            ChatRequest(
                list(conversation),
                of_row,
                temperature=temperature,
                seed=(seed * 1_000_003 + i) % 2**31,
                max_tokens=max_new_tokens,
                n=num_samples,
                token_ids=True,
                logit_bias=self._bias,
            )
            for i, (conversation, of_row) in enumerate(zip(conversations, images, strict=True))
        ]

        def ask(part: Sequence[tuple[int, ChatRequest]]) -> list[list[SampledAnswer]]:
            title = progress if not over_ranks or ranks().is_main_process else None
            answers = self.client.ask([request for _, request in part], title)
            return [self._sampled(row, answer) for (row, _), answer in zip(part, answers, strict=True)]

        numbered = list(enumerate(requests))
        return shared_work(numbered, ask) if over_ranks else ask(numbered)

    def _sampled(self, row: int, answer: ChatAnswer) -> list[SampledAnswer]:
        url = self.client.endpoint.url
        if answer.texts is None:
            raise DataError(
                f"evaluation.endpoint {url}: row {row} got no answer ({answer.error}): give the command again when the "
                "server answers."
            )
        if answer.token_ids is None or None in answer.token_ids:
            raise DataError(f"evaluation.endpoint {url}: the server returns no token ids: use vLLM 0.10 or newer.")
        decode = self.processor.tokenizer.decode
        return [SampledAnswer(ids, decode(ids, skip_special_tokens=True)) for ids in answer.token_ids if ids]
