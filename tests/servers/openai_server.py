"""A small real chat server on loopback: the nano VLM behind OpenAI's routes, with vLLM's extensions.

`POST /v1/chat/completions` understands `messages` (text, and images as data URLs), `n`, `temperature`, `top_p`, `seed`,
`max_tokens`, and vLLM's `return_token_ids`; other fields are accepted and ignored, `response_format` among them. `GET
/v1/models` and `/health` are what TRL's client asks first. What is served is sampled by the real model: nothing is
canned. It runs in a thread of the test's process; `requests` and `peak` say what it was asked.
"""

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from PIL import Image

from difference_feedback.models.generate import generate

START_SECONDS = STOP_SECONDS = 20.0


class OpenAIServer:
    """`url` is the base URL with the version, as `Endpoint.url` wants it; `model` the name it serves."""

    def __init__(self, model: Any, processor: Any, name: str = "nano") -> None:
        self.model_name = self.model = name
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        """The bodies of all chat requests so far."""
        self.headers: list[dict[str, str]] = []
        self.peak = 0
        """Most chat requests under way at a time."""
        self._model, self._processor = model, processor
        self._under_way = 0
        self._count, self._turn = threading.Lock(), threading.Lock()
        self.app = self._routes()

    def forget(self) -> None:
        """Start the record of requests anew."""
        self.requests, self.headers, self.peak = [], [], 0

    def _routes(self) -> FastAPI:
        app = FastAPI()

        @app.exception_handler(HTTPException)
        def refuse(_: Request, error: HTTPException) -> JSONResponse:
            body = {"error": {"message": error.detail, "type": "invalid_request_error", "code": error.status_code}}
            return JSONResponse(body, error.status_code)

        @app.get("/health")
        def health() -> dict[str, str]:
            return {}

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": self.model, "object": "model"}]}

        @app.post("/v1/chat/completions")
        def chat(body: dict[str, Any], request: Request) -> dict[str, Any]:
            with self._count:
                self.requests.append(body)
                self.headers.append(dict(request.headers))
                number = len(self.requests)
                self._under_way += 1
                self.peak = max(self.peak, self._under_way)
            try:
                return self._answer(body, number)
            finally:
                with self._count:
                    self._under_way -= 1

        return app

    def _answer(self, body: dict[str, Any], number: int) -> dict[str, Any]:
        if body.get("model") != self.model:
            raise HTTPException(404, f"The model `{body.get('model')}` does not exist.")
        temperature, samples = float(body.get("temperature", 1.0)), int(body.get("n") or 1)
        if temperature == 0 and samples > 1:  # as vLLM does
            raise HTTPException(400, f"n must be 1 when using greedy sampling, got {samples}.")
        conversation, images = read_messages(body["messages"])
        with self._turn:
            [answers] = generate(
                self._model,
                self._processor,
                [conversation],
                [images],
                max_new_tokens=int(body.get("max_tokens") or body.get("max_completion_tokens") or 64),
                temperature=temperature,
                top_p=float(body.get("top_p") or 1.0),
                num_samples=samples,
                seed=int(body["seed"]) if body.get("seed") is not None else number,
            )
        tokenizer = self._processor.tokenizer
        prompt = self._processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        choices = []
        for index, ids in enumerate(answers):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            reason = "stop" if ids[-1] == tokenizer.eos_token_id else "length"
            message = {"role": "assistant", "content": text}
            choices.append({"index": index, "message": message, "finish_reason": reason, "logprobs": None})
            if body.get("return_token_ids"):
                choices[-1]["token_ids"] = ids
        written = sum(map(len, answers))
        usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": written}
        usage["total_tokens"] = sum(usage.values())
        answer = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": int(time.time())}
        if body.get("return_token_ids"):
            answer["prompt_token_ids"] = prompt_ids
        return answer | {"model": self.model, "choices": choices, "usage": usage}


def read_messages(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """OpenAI's messages -> a conversation with bare image parts, and the images in order."""
    conversation, images = [], []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            images += [_image(part["image_url"]["url"]) for part in content if part["type"] == "image_url"]
            content = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
        conversation.append({"role": message["role"], "content": content})
    return conversation, images


def _image(url: str) -> Image.Image:
    header, _, data = url.partition(",")
    if not header.startswith("data:image/") or not header.endswith(";base64"):
        raise HTTPException(400, "images are taken as data URLs alone")
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve `app` on a free port of 127.0.0.1 meanwhile; yields the base URL with the version."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the server on loopback did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        server.force_exit = True


@contextmanager
def serve_model(model: Any, processor: Any, name: str = "nano") -> Iterator[OpenAIServer]:
    """Serve a model of the test's own meanwhile."""
    server = OpenAIServer(model, processor, name)
    with serving(server.app) as server.url:
        yield server
