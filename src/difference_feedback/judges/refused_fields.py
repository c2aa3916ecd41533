"""Fields of a request that some servers refuse: schemas, and what reasoning models and strict vendors do not take."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from difference_feedback.judges.wire import NoAnswer

_NAMES = {
    "response_format": re.compile(r"response_format|json_schema"),
    "seed": re.compile(r"\bseed\b"),
    "max_tokens": re.compile(r"\bmax_tokens\b"),
    "temperature": re.compile(r"\btemperature\b"),
}
_REFUSES = re.compile(
    r"(not|n't) (support|permit|allow|accept)|un(supported|recogni[sz]ed|known|expected)|deprecated|forbidden", re.I
)
"""Without such a word the server minds the value: a prompt that leaves no room for `max_tokens` fails alone."""
_SENT_INSTEAD = {
    "response_format": "accepts no JSON schema. Requests are sent without one, and answers are still checked here.",
    "seed": "accepts no seed. Requests are sent without one.",
    "max_tokens": "accepts no max_tokens. Requests are sent with max_completion_tokens instead.",
    "temperature": "does not accept this temperature. Requests are sent without one, and the server chooses its own.",
}


class RefusedFields:
    """What one server has refused so far."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._refused: set[str] = set()

    def left_out(self, body: Mapping[str, Any], sampled: bool) -> dict[str, Any]:
        """The request's body in a form that the server takes.

        `sampled`: its token ids are a sample of the model's own probabilities, which temperature and seed shape. They
        are sent whatever the server has said of them.
        """
        left_out = {name for name in self._refused if not (sampled and _shapes_samples(name))}
        taken = {name: value for name, value in body.items() if name not in left_out}
        if "max_tokens" in left_out:
            taken["max_completion_tokens"] = body["max_tokens"]
        return taken

    def learn(self, error: NoAnswer, body: Mapping[str, Any], sampled: bool) -> bool:
        """Whether `error` refuses a field of the `body` that can be left out. A new one is printed."""
        if error.status not in (400, 422):
            return False
        said = str(error)
        places = {
            name: match.start()
            for name, words in _NAMES.items()
            if name in body and not (sampled and _shapes_samples(name)) and (match := words.search(said))
        }
        if not _REFUSES.search(said):  # servers word the refusal of a schema in many ways
            places = {name: place for name, place in places.items() if name == "response_format"}
        if not places:
            return False
        name = min(places, key=places.__getitem__)  # the next refusal names the next one
        if name not in self._refused:
            self._refused.add(name)
            print(f"{self._url} {_SENT_INSTEAD[name]}", file=sys.stderr)
        return True


def _shapes_samples(name: str) -> bool:
    return name in ("seed", "temperature")
