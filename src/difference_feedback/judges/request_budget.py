"""What is left of `max_requests`: one count for all clients of a process that ask the same model of the same server."""

import os
import threading
from collections import Counter

from difference_feedback.runs.sections import Endpoint

_sent: Counter[tuple[str, str, str | None, int]] = Counter()
_turn = threading.Lock()


class RequestBudget:
    """The requests that this rank may send to an endpoint. The ranks of a launch share `max_requests`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.limit = endpoint.max_requests
        """Of this rank. None: no limit."""
        if endpoint.max_requests is not None:
            ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
            self._key = (endpoint.url, endpoint.model, endpoint.api_key_env, endpoint.max_requests)
            self.limit = endpoint.max_requests // ranks + (rank < endpoint.max_requests % ranks)

    def take(self) -> bool:
        """Count a request that is about to be sent. False where none is left."""
        if self.limit is None:
            return True
        with _turn:
            if _sent[self._key] >= self.limit:
                return False
            _sent[self._key] += 1
        return True
