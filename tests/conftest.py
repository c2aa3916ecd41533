"""Servers on loopback that tests of several folders ask."""

from collections.abc import Iterator

import pytest
from servers.openai_server import OpenAIServer, serve_model


@pytest.fixture(scope="session")
def _served() -> Iterator[OpenAIServer]:
    from difference_feedback.nano.base import load_base

    with serve_model(*load_base()) as server:
        yield server


@pytest.fixture
def openai_server(_served: OpenAIServer) -> OpenAIServer:
    """The shipped nano base behind OpenAI's chat routes: `.url` (ends in /v1), `.model`, and a fresh `.requests`."""
    _served.forget()
    return _served
