"""Make a folder of items to annotate: `items.jsonl`, its images, and the responses if they were sampled here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.annotate.collect import Collection, collect_items
from difference_feedback.annotate.responses import read_responses, sample_responses
from difference_feedback.data.dataset import VisualQuestion, load_data
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import print_problems, read_jsonl, write_jsonl
from difference_feedback.runs.sections import Data, Endpoint, PolicyEndpoint
from difference_feedback.runs.servers import check_server
from difference_feedback.runs.serving import free_url

STRATA = ("subject", "level")


def collect_folder(
    data: Path,
    output: Path,
    *,
    responses: Sequence[Path] = (),
    model: str | None = None,
    endpoint: Mapping[str, Any] | None = None,
    serve: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any],
    drawing: Mapping[str, Any],
    console: Console,
) -> Collection:
    """Make the folder. `drawing` has the options of `collect_items`, `sampling` those of `sample_responses`.

    With `serve`, the fields of `runs.sections.Serve`, `model` answers behind a vLLM server that is started for this.

    Raises `ConfigError` when the folder already holds repairs, which would not fit new items, and `DataError` when
    there is no item.
    """
    items = output / "items.jsonl"
    if beside(items, "annotated").exists():
        raise ConfigError(f"{output} already holds repairs of its items: give another --output")
    server = Endpoint.model_validate(dict(endpoint)) if endpoint else None
    if server:
        check_server(server, "collect")
    served = None
    if serve:
        served = PolicyEndpoint.model_validate({"url": free_url(), "model": model, "serve": dict(serve)})
        check_server(served, "collect")
    settings = Data(path=str(data))
    questions = load_data(settings, console).questions()
    # The instruction to state the answer is for models; people see the bare question.
    bare = [replace(question, question=question.question.removesuffix(settings.instruction)) for question in questions]
    if responses:
        usable, problems = read_responses(responses)
        if problems:
            console.print(f"{len(problems)} responses are left out:")
            print_problems(problems, console)
    else:
        path = output / "responses.jsonl"
        failed = sample_responses(
            questions, path, model=model, endpoint=server, served=served, console=console, **sampling
        )
        if failed:
            console.print(f"{failed} questions got no answer; run the same command again to ask them again.")
        usable, _ = read_responses([path])
    collection = collect_items(bare, usable, strata=_strata(data), **drawing)
    if not collection.items:
        counts = ", ".join(f"{count} {what}" for what, count in collection.counts.items() if count)
        raise DataError(
            f"{data}: no response can become an item ({counts}). Sample more answers, or allow shorter ones with "
            "--min-words"
        )
    _write(items, collection, {question.id: question for question in questions})
    return collection


def _write(path: Path, collection: Collection, questions: Mapping[str, VisualQuestion]) -> None:
    folder = path.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for item in collection.items:
        name = item["id"].replace("/", "_")
        question = questions.get(item["id"]) or questions[item["id"].rpartition("-")[0]]
        item["image"] = []
        for i, image in enumerate(question.images):
            item["image"].append(f"images/{name}-{i}.png")
            image.save(path.parent / item["image"][-1])
    write_jsonl(path, collection.items)


def _strata(data: Path) -> dict[str, dict[str, Any]]:
    """Subject and level by question id, for the questions that have them."""
    if data.suffix not in (".jsonl", ".json"):
        return {}
    return {
        str(values.get("id", line)): {name: values[name] for name in STRATA if values.get(name) is not None}
        for line, values in read_jsonl(data)[0]
    }
