"""Who drafts repairs for people to correct: the closest right sibling, a repair model here, or one behind a server."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from difference_feedback.annotate.collect import Response
from difference_feedback.annotate.feedback import is_right, word_cost
from difference_feedback.annotate.item_check import images_of
from difference_feedback.annotate.responses import read_responses
from difference_feedback.data.pictures import Opener
from difference_feedback.data.repair_set import RepairExample, read_example
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.prompts import FULL, repair_conversation
from difference_feedback.repair.wrapping import unwrapped
from difference_feedback.runs.model_folder import check_model, model_of, place_of
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.servers import check_server

Item = Mapping[str, Any]
Texts = list[str] | None
"""Repairs of one answer. None: it could not be asked for, and is asked for again at the next start."""
Drafter = Callable[[Sequence[Item]], list[Texts]]

SAMPLES = 8  # candidates of a model for each answer
TEMPERATURE = 0.7
LONGEST = 4096  # tokens; a repair is also cut by the length of its draft


@dataclass(frozen=True)
class DraftSource:
    """`name` is what rows call the drafter. `load` makes it, and may take long: a model is loaded."""

    name: str
    load: Callable[[], Drafter]


@dataclass(frozen=True)
class Drafted:
    """A drafted repair and the name of its source. Both are None where no source has one to offer."""

    text: str | None
    by: str | None


class Drafters:
    """Several sources. Of all their repairs the `closest` is offered."""

    def __init__(self, sources: Sequence[DraftSource], stopped: threading.Event | None = None) -> None:
        """`stopped` is the event that was given to the sources. Once it is set, nothing more is drafted."""
        self.stopped = stopped or threading.Event()
        self.name = " or ".join(sorted(source.name for source in sources))
        self._sources = sources
        self._drafters: list[Drafter] = []

    def draft(self, items: Sequence[Item]) -> list[Drafted | None]:
        """A drafted repair of each item. None where a source did not answer. The first call loads the models."""
        self._drafters = self._drafters or [source.load() for source in self._sources]
        answers = [drafter(items) for drafter in self._drafters]
        return [self._choose(item, texts) for item, *texts in zip(items, *answers, strict=True)]

    def _choose(self, item: Item, of_sources: Sequence[Texts]) -> Drafted | None:
        names: dict[str, str] = {}
        for source, texts in zip(self._sources, of_sources, strict=True):
            if texts is None:
                return None
            names = {text.strip(): source.name for text in texts} | names
        text = closest(item, list(names))
        return Drafted(text, names[text] if text else None)


def draft_source(
    where: str,
    items: Sequence[Item],
    folder: Path,
    *,
    model: str | None = None,
    key_env: str | None = None,
    responses: Sequence[Path] = (),
    stopped: threading.Event | None = None,
) -> DraftSource:
    """The drafter that `where` names. What can be checked at once is checked here.

    Args:
        where: `sibling`, the URL of an OpenAI-compatible server, or a repair model: its folder, that of its run, or a
            hub name. `repair_model=` and `endpoint=` may stand before it.
        items: the items, for `sibling`: references of the same question are siblings.
        folder: where the images of the items are.
        model: the model's name on the server.
        key_env: environment variable with the server's key.
        responses: further answers, for `sibling`; by default `responses.jsonl` in `folder` if there is one.
        stopped: once it is set, a model in this process gives up what it is drafting, and raises `InterruptedError`.

    Raises `ConfigError` for a model or a server that cannot be used, and `DataError` when no response can be used.
    """
    where = where.removeprefix("repair_model=").removeprefix("endpoint=")
    if where == "sibling":
        sampled = folder / "responses.jsonl"
        paths = list(responses) or [sampled] * sampled.is_file()
        return DraftSource("sibling", partial(_siblings, items, folder, read_responses(paths)[0] if paths else []))
    if where.startswith(("http://", "https://")):
        if not model:
            raise ConfigError(f"--draft-from {where}: give --draft-model, the model's name on that server")
        endpoint = Endpoint(url=where, model=model, api_key_env=key_env, max_tokens=LONGEST, timeout=600.0)
        check_server(endpoint, "--draft-from")
        return DraftSource(model, partial(_served, endpoint, folder))
    name = place_of(model_of(where))
    check_model(name, "--draft-from")
    return DraftSource(name, partial(_local, name, folder, stopped or threading.Event()))


def closest(item: Item, candidates: Sequence[str]) -> str | None:
    """The candidate to offer: a right one if there is one, else an ungraded one; of these the one with fewest edits.

    The wrong answer itself does not count as one. Edits are counted in words. [DF, Eqs. 6-7]
    """
    order = {True: 0, None: 1, False: 2}
    texts = {text.strip() for text in candidates} - {"", item["draft"].strip()}
    ranked = [(order[is_right(item, text)], word_cost(item["draft"], text), text) for text in texts]
    return min(ranked)[2] if ranked else None


def _siblings(items: Sequence[Item], folder: Path, responses: Sequence[Response]) -> Drafter:
    references: defaultdict[Any, list[str]] = defaultdict(list)
    for item in items:
        references[_question(item, folder)].append(item.get("reference") or "")
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for response in responses:
        answers[response.question].append(response.text)

    def draft(batch: Sequence[Item]) -> list[Texts]:
        texts: list[Texts] = []
        for item in batch:
            # `repair collect` numbers the items of one question: 12, 12-2, 12-3.
            name, _, number = item["id"].rpartition("-")
            of_question = answers.get(item["id"]) or (answers.get(name, []) if number.isdecimal() else [])
            right = [text for text in of_question if is_right(item, text)]
            texts.append([item.get("reference") or "", *references[_question(item, folder)], *right])
        return texts

    return draft


def _question(item: Item, folder: Path) -> tuple[Any, ...]:
    """What two items on the same question have in common. Each has its own image file."""
    paths = [folder / name for name in images_of(item)]
    pictures = [hashlib.sha256(path.read_bytes()).digest() for path in paths if path.is_file()]
    return item["question"], str(item.get("answer")), *pictures


def _local(name: str, folder: Path, stopped: threading.Event) -> Drafter:
    from difference_feedback.repair.local import LocalRepairer

    repairer = LocalRepairer.from_pretrained(name, max_new_tokens=LONGEST, temperature=TEMPERATURE)
    encode = repairer.processor.tokenizer.encode

    def look(*_: Any) -> None:
        if stopped.is_set():
            raise InterruptedError("the page was stopped")

    repairer.model.register_forward_pre_hook(look)  # that is, at every token

    def draft(examples: Sequence[RepairExample]) -> list[Texts]:
        requests = [
            RepairRequest(row.prompt, list(row.images), encode(row.draft, add_special_tokens=False), row.reference)
            for row in examples
        ]
        repairs = repairer.repair(requests, SAMPLES)
        return [[repair.text for repair in of_request if repair.fault is None] for of_request in repairs]

    return _with_images(draft, folder)


def _served(endpoint: Endpoint, folder: Path) -> Drafter:
    client = ChatClient(endpoint)

    def draft(examples: Sequence[RepairExample]) -> list[Texts]:
        requests = [
            ChatRequest(
                repair_conversation(row.prompt, row.draft, row.reference, FULL),
                row.images,
                temperature=TEMPERATURE,
                max_tokens=min(LONGEST, 64 + len(row.draft)),
                n=SAMPLES,
            )
            for row in examples
        ]
        answers = client.ask(requests)
        if answers and all(answer.texts is None for answer in answers):
            raise DataError(f"{endpoint.url}: {answers[0].error}")
        return [_texts(row.draft, answer) for row, answer in zip(examples, answers, strict=True)]

    return _with_images(draft, folder)


def _texts(draft: str, answer: ChatAnswer) -> Texts:
    """The repairs of an answer, without what a chat model writes around them, and without those that were cut off."""
    if answer.texts is None:
        return None
    whole = [text for text, cut in zip(answer.texts, answer.truncated, strict=True) if text is not None and not cut]
    return [repair for text in whole if (repair := unwrapped(text, draft, FULL.markers)) is not None]


def _with_images(draft: Callable[[Sequence[RepairExample]], list[Texts]], folder: Path) -> Drafter:
    """A drafter that opens the items' images. An item whose images cannot be opened gets no candidates."""

    def of_items(batch: Sequence[Item]) -> list[Texts]:
        examples: list[RepairExample | None] = [_example(item, folder) for item in batch]
        drafted = iter(draft([row for row in examples if row]))
        return [next(drafted) if row else [] for row in examples]

    return of_items


def _example(item: Item, folder: Path) -> RepairExample | None:
    """The item as `repair sft` reads it once it is repaired: the prompt is the same. None where it cannot be read."""
    row = {**item, "image": images_of(item), "repaired": item["draft"]}
    try:
        example = read_example(row, 0, Opener(None, item["id"], folder, min_side=28, max_pixels=1_003_520))
        return replace(example, images=list(example.images))
    except DataError:
        return None
