"""A page of `annotate` as a browser holds it: it keeps the values, and sends them with each click."""

import json
import re
import secrets
from typing import Any

import httpx


class OpenPage:
    """Opens the page at `url`. The values stay when the server ends; `click` works again when it is back."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=url, timeout=30, **options)
        html = self.client.get("/").raise_for_status().text
        found = re.search(r"window\.gradio_config = (\{.*?\});</script>", html, re.DOTALL)
        assert found
        self.config = json.loads(found[1])
        self.session = secrets.token_hex(5)
        parts = self.config["components"]
        self.names = {part["props"].get("elem_id"): part["id"] for part in parts}
        self.values: dict[int, Any] = {part["id"]: part["props"].get("value") for part in parts}
        for number, event in enumerate(self.config["dependencies"]):
            if event["targets"][0][1] == "load":
                self.send(number)

    def __getitem__(self, name: str) -> Any:
        return self.values[self.names[name]]

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[self.names[name]] = value

    def click(self, name: str) -> str:
        """Click a button. Returns the tab's message as HTML."""
        wanted = [self.names[name], "click"]
        [number] = [i for i, event in enumerate(self.config["dependencies"]) if wanted in event["targets"]]
        self.send(number)
        return str(self["review-message" if name.startswith("review") else "message"])

    def send(self, number: int) -> None:
        """Send an event with the values of its inputs, and take over its outputs."""
        event = self.config["dependencies"][number]
        body = {"data": [self.values.get(i) for i in event["inputs"]], "fn_index": number, "session_hash": self.session}
        headers = {"Content-Type": "application/json"}
        sent = json.dumps(body)  # with escapes, as browsers send half of a surrogate pair; httpx cannot send one
        joined = self.client.post("/gradio_api/queue/join", content=sent, headers=headers).raise_for_status().json()
        for part, value in zip(event["outputs"], self._answer(joined["event_id"]), strict=True):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" in value:
                    self.values[part] = value["value"]
            else:
                self.values[part] = value

    def _answer(self, event: str) -> list[Any]:
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed" and message.get("event_id") == event:
                    assert message["success"], message
                    data: list[Any] = message["output"]["data"]
                    return data
        raise httpx.ReadError("the stream ended")
