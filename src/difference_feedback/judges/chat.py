"""Questions to a chat model behind an OpenAI-compatible server: many at a time, each with an answer or a reason.

Answers are kept on disk where the endpoint names a cache: content-addressed by everything that shapes them, the images'
bytes included, and shared by runs and processes. Whatever happens to the cache, no answer is lost by it.
"""

import asyncio
import base64
import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from difference_feedback.judges.answer_cache import AnswerCache
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.servers import check_endpoint, is_loopback

LONGEST_PAUSE = 30.0  # seconds between two attempts


@dataclass(frozen=True)
class ChatRequest:
    """One question. `messages` in the server's form; image parts are `{"type": "image"}`, in the order of `images`."""

    messages: list[dict[str, Any]]
    images: Sequence[Image.Image] = ()
    schema: dict[str, Any] | None = None
    """JSON schema that the answer must follow, where the server can enforce one."""
    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    """None: the endpoint's own."""
    n: int = 1
    token_ids: bool = False
    """Ask for token ids as well, which vLLM gives."""


@dataclass(frozen=True)
class ChatAnswer:
    """`n` texts, or the reason why there are none."""

    texts: list[str] | None
    error: str | None = None
    token_ids: list[list[int]] | None = None
    """Of each text, where the server gave them."""
    truncated: list[bool] = field(default_factory=list)
    """Which texts end at the limit of tokens."""
    cached: bool = False


@dataclass
class Usage:
    """What a client has sent and received."""

    asked: int = 0
    cached: int = 0
    sent: int = 0
    """HTTP requests, retries included."""
    retries: int = 0
    failed: int = 0
    """Questions without an answer."""
    cache_errors: int = 0
    tokens: int = 0
    """Of prompts and answers, as the server counts them."""

    def summary(self) -> dict[str, int]:
        return asdict(self)


class ChatClient:
    """Asks the server of `endpoint`. Raises `ConfigError` when the extra or the key is missing."""

    def __init__(self, endpoint: Endpoint, first_pause: float = 0.5) -> None:
        """`first_pause`: seconds before the first further attempt; it doubles with each."""
        check_endpoint(endpoint)
        self.endpoint = endpoint
        self.usage = Usage()
        self._first_pause = first_pause
        self._key = os.environ[endpoint.api_key_env] if endpoint.api_key_env else "none"
        self._loopback = is_loopback(endpoint.url)
        self._takes_schemas = True
        self._cache = AnswerCache(endpoint.cache) if endpoint.cache else None

    def ask(
        self, requests: Sequence[ChatRequest], progress: str | None = None, seconds: float | None = None
    ) -> list[ChatAnswer]:
        """Answers in the order of the requests; one that fails costs the others nothing.

        Args:
            progress: title of a progress bar; None shows none.
            seconds: for all of them together; what is not answered by then has failed. None: as long as it takes, which
                is bounded by the endpoint's time-out and retries.
        """
        with ThreadPoolExecutor(1) as thread:  # a loop of its own, wherever this is called from
            return thread.submit(asyncio.run, self._ask_all(requests, progress, seconds)).result()

    async def _ask_all(
        self, requests: Sequence[ChatRequest], progress: str | None, seconds: float | None
    ) -> list[ChatAnswer]:
        import openai
        from rich.progress import Progress

        deadline = asyncio.get_running_loop().time() + (math.inf if seconds is None else seconds)
        slots = asyncio.Semaphore(self.endpoint.concurrency)
        http = openai.DefaultAsyncHttpxClient(trust_env=not self._loopback)  # no proxy between us and ourselves
        client = openai.AsyncOpenAI(
            base_url=self.endpoint.url,
            api_key=self._key,
            timeout=self.endpoint.timeout,
            max_retries=0,
            http_client=http,
        )
        with Progress(transient=True, disable=progress is None) as bar:
            task = bar.add_task(progress or "", total=len(requests))

            async def one(request: ChatRequest) -> ChatAnswer:
                async with slots:
                    answer = await self._answer(client, request, deadline)
                bar.advance(task)
                return answer

            async with client:
                return await asyncio.gather(*map(one, requests))

    async def _answer(self, client: Any, request: ChatRequest, deadline: float) -> ChatAnswer:
        self.usage.asked += 1
        urls = [_data_url(image, self.endpoint.max_pixels) for image in request.images]
        key = self._fingerprint(request, urls)
        kept = self._cache.get(key) if self._cache else None
        if kept is not None:
            self.usage.cached += 1
            return ChatAnswer(kept["texts"], None, kept["token_ids"], kept["truncated"], cached=True)
        try:
            messages = _with_images(request.messages, urls)
        except ValueError as error:
            answer = ChatAnswer(None, str(error))
        else:
            answer = await self._attempts(client, request, messages, deadline)
        if answer.texts is None:
            self.usage.failed += 1
        else:
            kept = {"texts": answer.texts, "token_ids": answer.token_ids, "truncated": answer.truncated}
            if self._cache:
                self._cache.set(key, kept)
                self.usage.cache_errors = self._cache.errors
        return answer

    async def _attempts(
        self, client: Any, request: ChatRequest, messages: list[dict[str, Any]], deadline: float
    ) -> ChatAnswer:
        import openai

        passing: tuple[type[Exception], ...] = (openai.APIConnectionError, openai.RateLimitError, TimeoutError)
        passing += (openai.InternalServerError, openai.APIResponseValidationError, json.JSONDecodeError)
        pause, reason, attempt, now = self._first_pause, "", 0, asyncio.get_running_loop().time
        while attempt <= self.endpoint.retries:
            if self.endpoint.max_requests is not None and self.usage.sent >= self.endpoint.max_requests:
                return ChatAnswer(None, f"the budget of {self.endpoint.max_requests} requests is used up")
            limit = min(self.endpoint.timeout, deadline - now())
            if limit <= 0:
                return ChatAnswer(None, reason or "no time was left to ask")
            self.usage.sent += 1
            schema = request.schema if self._takes_schemas else None
            try:
                # The client's own time-out is for each read: a server that drips bytes would never exceed it.
                async with asyncio.timeout(limit):
                    return self._read_answer(
                        await client.chat.completions.create(**self._body(request, messages, schema))
                    )
            except openai.BadRequestError as error:
                if schema is None or ("response_format" not in str(error) and "json_schema" not in str(error)):
                    return ChatAnswer(None, _short(error))
                self._takes_schemas = False
                print(f"{self.endpoint.url} takes no JSON schema; answers are checked here alone.", file=sys.stderr)
                continue  # the same attempt, without it
            except passing as error:
                reason = _short(error) if str(error) else f"no answer within {limit:.0f} seconds"
                wait = _wanted_pause(error, pause)
            except openai.APIError as error:
                return ChatAnswer(None, _short(error))
            except (ValueError, TypeError, AttributeError) as error:  # an answer in no form of the protocol
                reason, wait = f"the answer is no chat completion ({_short(error)})", pause
            attempt += 1
            pause = min(2 * pause, LONGEST_PAUSE)
            if attempt <= self.endpoint.retries:
                self.usage.retries += 1
                await asyncio.sleep(max(0.0, min(wait, deadline - now())))
        return ChatAnswer(None, reason)

    def _body(
        self, request: ChatRequest, messages: list[dict[str, Any]], schema: dict[str, Any] | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens or self.endpoint.max_tokens,
            "n": request.n,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if schema is not None:
            named = {"name": "answer", "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if request.token_ids:
            body["extra_body"] = {"return_token_ids": True}
        return body

    def _read_answer(self, completion: Any) -> ChatAnswer:
        if not completion.choices:
            raise ValueError("it has no choices")
        self.usage.tokens += completion.usage.total_tokens if completion.usage else 0
        texts = [choice.message.content or "" for choice in completion.choices]
        ids = [getattr(choice, "token_ids", None) for choice in completion.choices]
        truncated = [choice.finish_reason == "length" for choice in completion.choices]
        known = [list(i) for i in ids if i is not None]
        return ChatAnswer(texts, None, known if len(known) == len(ids) else None, truncated)

    def _fingerprint(self, request: ChatRequest, urls: list[str]) -> str:
        content = {name: value for name, value in vars(request).items() if name != "images"}
        content |= {"images": urls, "url": self.endpoint.url, "model": self.endpoint.model}
        content["max_tokens"] = request.max_tokens or self.endpoint.max_tokens
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _data_url(image: Image.Image, max_pixels: int) -> str:
    """A PNG, scaled down to at most `max_pixels`."""
    scale = math.sqrt(max_pixels / (image.width * image.height))
    if scale < 1:
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _with_images(messages: list[dict[str, Any]], urls: list[str]) -> list[dict[str, Any]]:
    """The messages with data URLs in their image parts. Raises `ValueError` unless there is one for each."""
    left, found = iter(urls), []
    parts = 0
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            parts += sum(part["type"] == "image" for part in content)
            content = [
                {"type": "image_url", "image_url": {"url": next(left, "")}} if part["type"] == "image" else part
                for part in content
            ]
        found.append({**message, "content": content})
    if parts != len(urls):
        raise ValueError(f"the messages have {parts} image parts and there are {len(urls)} images")
    return found


def _wanted_pause(error: BaseException, pause: float) -> float:
    """What the server asks for, where it does, within reason."""
    response = getattr(error, "response", None)
    try:
        asked = float(response.headers.get("retry-after", 0)) if response is not None else 0.0
    except ValueError:
        asked = 0.0
    return min(max(asked, pause), LONGEST_PAUSE)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "…"
