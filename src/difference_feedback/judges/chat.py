"""Ask a chat model behind an OpenAI-compatible server many questions at once; each gets an answer or a reason.

If the endpoint names a cache, answers that can be read are stored on disk. The key is a hash of everything that shapes
the answer, the images' bytes included, and runs and processes share the cache. When the cache fails, no answer is lost.
"""

import asyncio
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from difference_feedback.judges.answer_cache import AnswerCache
from difference_feedback.judges.keys import Secrets
from difference_feedback.judges.picture_urls import PictureURLs
from difference_feedback.judges.refused_fields import RefusedFields
from difference_feedback.judges.request_budget import RequestBudget
from difference_feedback.judges.wire import NoAnswer, choices_of, http_client, post
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.servers import check_endpoint
from difference_feedback.runs.serving import refuse_dead_server

LONGEST_PAUSE = 30.0  # seconds between two attempts
_ENCODERS = 4  # threads that encode images and requests while answers arrive
_UNHASHED = ("images", "logit_bias", "bad_words", "readable")
VLLM_SAMPLING = {"return_token_ids": True, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM's fields for a request with `token_ids`."""


@dataclass(frozen=True)
class ChatRequest:
    """One question. `messages` have the server's form, except that each of `images` is a part `{"type": "image"}`."""

    messages: list[dict[str, Any]]
    images: Sequence[Image.Image] = ()
    schema: dict[str, Any] | None = None
    """JSON schema of the answer, for servers that can enforce one."""
    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    """None: the endpoint's own limit."""
    n: int = 1
    token_ids: bool = False
    """Ask a vLLM server for the token ids too, sampled from the model's own probabilities: `temperature` alone shapes
    them, and not what the model's generation configuration says, which vLLM would follow."""
    logit_bias: dict[int, float] | None = None
    """Token id -> what is added to its logit. vLLM refuses it where it speculates."""
    bad_words: Sequence[str] = ()
    """vLLM's: texts that no answer has. Where a text is one token, the token is never sampled."""
    readable: Callable[[str], bool] | None = None
    """Whether a text is an answer to the question. Others are not kept in the cache. None: every text is one."""


@dataclass(frozen=True)
class ChatAnswer:
    """At most `n` texts, or in `error` the reason why there are none."""

    texts: list[str | None] | None
    """A text is None where the server sent something else in its place."""
    error: str | None = None
    token_ids: list[list[int] | None] | None = None
    """The token ids of each text, None where they are no ids; None when the server sent none at all."""
    truncated: list[bool] = field(default_factory=list)
    """For each text, whether it was cut off at the token limit."""
    cached: bool = False


@dataclass
class Usage:
    """What a client has sent and received."""

    asked: int = 0
    """Questions."""
    cached: int = 0
    """Questions answered from the cache."""
    sent: int = 0
    """HTTP requests, retries included."""
    retries: int = 0
    failed: int = 0
    """Questions without an answer."""
    reason: str = ""
    """Why the last of these has none."""
    cache_errors: int = 0
    tokens: int = 0
    """Tokens of prompts and answers, as counted by the server."""


class ChatClient:
    """Asks the server of `endpoint`. Raises `ConfigError` when a package or the key is missing, or the URL is wrong."""

    def __init__(self, endpoint: Endpoint, first_pause: float = 0.5) -> None:
        """`first_pause` is the pause in seconds before the second attempt; it doubles with every further one."""
        check_endpoint(endpoint)
        self.endpoint = endpoint
        self.usage = Usage()
        self._first_pause = first_pause
        self._key = os.environ[endpoint.api_key_env] if endpoint.api_key_env else "none"
        self._secrets = Secrets(endpoint)
        self._budget = RequestBudget(endpoint)
        self._refused = RefusedFields(endpoint.url)
        self._has_warned = False
        self._cache = AnswerCache(endpoint.cache) if endpoint.cache else None
        self._pictures = PictureURLs(endpoint.max_pixels)

    def ask(
        self, requests: Sequence[ChatRequest], progress: str | None = None, seconds: float | None = None
    ) -> list[ChatAnswer]:
        """Answers in the order of the requests. A failed request does not affect the others.

        Raises `DifferenceFeedbackError` when the run has started the server itself and it has ended.

        Args:
            progress: title of a progress bar; None shows no bar.
            seconds: time limit for all requests together; those unanswered by then fail. None: only the endpoint's
                time-out and retries limit the time.
        """
        with ThreadPoolExecutor(1) as thread:  # a new event loop, since the caller may already run one
            return thread.submit(asyncio.run, self._ask_all(requests, progress, seconds)).result()

    async def _ask_all(
        self, requests: Sequence[ChatRequest], progress: str | None, seconds: float | None
    ) -> list[ChatAnswer]:
        from rich.progress import Progress

        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_ENCODERS))  # each may hold a large image
        deadline = loop.time() + (math.inf if seconds is None else seconds)
        slots = asyncio.Semaphore(self.endpoint.concurrency)
        with Progress(transient=True, disable=progress is None) as bar:
            task = bar.add_task(progress or "", total=len(requests))

            async def answer_one(request: ChatRequest) -> ChatAnswer:
                async with slots:
                    answer = await self._answer(client, request, deadline)
                bar.advance(task)
                return answer

            async with http_client(self.endpoint.url, self.endpoint.concurrency) as client:
                return await asyncio.gather(*map(answer_one, requests))

    async def _answer(self, client: Any, request: ChatRequest, deadline: float) -> ChatAnswer:
        self.usage.asked += 1
        urls, key = await asyncio.to_thread(self._encoded, request)  # other answers arrive meanwhile
        stored = self._stored(key, request)
        if stored is not None:
            self.usage.cached += 1
            return stored
        try:
            messages = _with_images(request.messages, urls)
        except ValueError as error:
            answer = ChatAnswer(None, str(error))
        else:
            answer = await self._attempts(client, request, messages, deadline)
        if answer.texts is None or all(text is None for text in answer.texts):
            self.usage.failed += 1
            self.usage.reason = answer.error or ""
        elif self._cache and _is_readable(answer, request):
            self._cache.set(key, _as_completion(answer))
        if self._cache:
            self.usage.cache_errors = self._cache.errors
        return answer

    def _encoded(self, request: ChatRequest) -> tuple[list[str], str]:
        """The URLs of the request's images, and its key in the cache, empty without one."""
        urls = self._pictures.of(request.images)
        return urls, self._fingerprint(request, urls) if self._cache else ""

    def _stored(self, key: str, request: ChatRequest) -> ChatAnswer | None:
        """The answer in the cache, read as a server's; None if it is missing, or would not be stored today."""
        values = self._cache.get(key) if self._cache else None
        try:
            answer = None if values is None else self._read_answer(values, request)
        except NoAnswer:
            return None
        return replace(answer, cached=True) if answer and _is_readable(answer, request) else None

    async def _attempts(
        self, client: Any, request: ChatRequest, messages: list[dict[str, Any]], deadline: float
    ) -> ChatAnswer:
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        pause, reason, attempt, now = self._first_pause, "", 0, asyncio.get_running_loop().time
        while attempt <= self.endpoint.retries:
            if not self._budget.take():
                reason = f"endpoint.max_requests: all {self._budget.limit} requests of this process are used up"
                self._warn(reason)
                return ChatAnswer(None, reason)
            limit = min(self.endpoint.timeout, deadline - now())
            if limit <= 0:
                return ChatAnswer(None, reason or "the time limit ended before the request was sent")
            self.usage.sent += 1
            body = self._refused.left_out(self._body(request, messages), request.token_ids)
            try:
                async with asyncio.timeout(limit):  # of the whole request: a server may send a byte now and then
                    values = await post(client, url, self._key, body)
                return self._read_answer(values, request)
            except TimeoutError:
                refuse_dead_server(self.endpoint.url)
                reason, wait = f"no answer within {limit:.0f} seconds", 0.0
            except NoAnswer as error:
                refuse_dead_server(self.endpoint.url)
                if self._refused.learn(error, body, request.token_ids):
                    continue  # repeat this attempt without the field
                reason, wait = self._short(str(error)), error.wait
                if not error.again:
                    self._warn(reason)
                    return ChatAnswer(None, reason)
            attempt += 1
            wait = min(max(wait, pause), LONGEST_PAUSE)
            pause = min(2 * pause, LONGEST_PAUSE)
            if attempt <= self.endpoint.retries:
                self.usage.retries += 1
                await asyncio.sleep(max(0.0, min(wait, deadline - now())))
        return ChatAnswer(None, reason)

    def _warn(self, reason: str) -> None:
        """Print the first reason that another attempt would not mend: without it, all that shows is a count."""
        if not self._has_warned:
            self._has_warned = True
            print(f"{self.endpoint.url}: a question stays without an answer: {reason}", file=sys.stderr)

    def _read_answer(self, values: Any, request: ChatRequest) -> ChatAnswer:
        """What the server sent, without the endpoint's secrets. Raises `NoAnswer` where it is no completion."""
        choices = choices_of(values, request.n, request.max_tokens or self.endpoint.max_tokens)
        self.usage.tokens += choices.tokens
        texts = [text and self._secrets.struck(text) for text in choices.texts]
        # Where a text has changed, its ids would bring back what was struck out.
        ids = [i if new == old else None for i, new, old in zip(choices.token_ids, texts, choices.texts, strict=True)]
        error = "the server sent something else than a text" if None in texts else None
        return ChatAnswer(texts, error, None if all(i is None for i in ids) else ids, choices.truncated)

    def _short(self, text: str) -> str:
        """A server's words for a message: without secrets, on one line, and without what steers a terminal."""
        text = self._secrets.struck(" ".join(text.split())[:20_000])  # far more than is shown: no secret is cut
        text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
        return text if len(text) <= 200 else text[:200] + "…"

    def _body(self, request: ChatRequest, messages: list[dict[str, Any]]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens or self.endpoint.max_tokens,
            "n": request.n,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.schema is not None:
            named = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if request.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in request.logit_bias.items()}
        if request.bad_words:
            body["bad_words"] = list(request.bad_words)
        if request.token_ids:
            body |= VLLM_SAMPLING
        return body

    def _fingerprint(self, request: ChatRequest, urls: list[str]) -> str:
        content = {name: value for name, value in vars(request).items() if name not in _UNHASHED}
        if request.logit_bias:
            content["logit_bias"] = request.logit_bias
        if request.bad_words:
            content["bad_words"] = list(request.bad_words)
        if request.token_ids:
            content["vllm"] = VLLM_SAMPLING
        content |= {"images": urls, "url": self.endpoint.url, "model": self.endpoint.model}
        content["max_tokens"] = request.max_tokens or self.endpoint.max_tokens
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _with_images(messages: list[dict[str, Any]], urls: list[str]) -> list[dict[str, Any]]:
    """The messages with data URLs in their image parts. Raises `ValueError` unless parts and URLs are equally many."""
    next_url, filled = iter(urls), []
    parts = 0
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            parts += sum(part["type"] == "image" for part in content)
            content = [
                {"type": "image_url", "image_url": {"url": next(next_url, "")}} if part["type"] == "image" else part
                for part in content
            ]
        filled.append({**message, "content": content})
    if parts != len(urls):
        raise ValueError(f"the messages have {parts} image parts, but there are {len(urls)} images")
    return filled


def _is_readable(answer: ChatAnswer, request: ChatRequest) -> bool:
    """Whether every text can be used."""
    usable = request.readable or (lambda text: True)
    return all(text is not None and usable(text) for text in answer.texts or [None])


def _as_completion(answer: ChatAnswer) -> dict[str, Any]:
    """As a server would send it."""
    texts = answer.texts or []
    rows = zip(texts, answer.token_ids or [None] * len(texts), answer.truncated, strict=True)
    return {
        "choices": [
            {"message": {"content": text}, "token_ids": ids, "finish_reason": "length" if cut else "stop"}
            for text, ids, cut in rows
        ]
    }
