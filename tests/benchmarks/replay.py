"""A server that knows the answers to the rows of `benchmark_rows`."""

from typing import Any

from benchmark_rows import ROWS, colour
from fastapi import HTTPException
from servers.openai_server import OpenAIServer, read_messages

ANSWERS = {colour(name, number): case.response for name, rows in ROWS.items() for number, case in enumerate(rows)}
"""Colour of a row's first image -> the answer to it."""


class Replay(OpenAIServer):
    """Answers each row of `ROWS` as it is written there. The row is known by the pixels that arrive."""

    def __init__(self, processor: Any, name: str) -> None:
        super().__init__(None, processor, name)
        self.refuse_after: int | None = None
        """Number of answers after which every request is refused, as by a server that breaks down."""

    def _answer(self, body: dict[str, Any], number: int) -> dict[str, Any]:
        if self.refuse_after is not None and number > self.refuse_after:
            raise HTTPException(400, "out of order")
        _, images = read_messages(body["messages"])
        text = ANSWERS[images[0].getpixel((5, 5))]
        tokenizer = self._processor.tokenizer
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": len(ids), "total_tokens": 1 + len(ids)}
        made = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0, "model": self.model}
        return made | {"choices": [choice | {"token_ids": ids}], "usage": usage}
