"""Make a folder of items to annotate: `items.jsonl`, its images, and the responses if they were sampled here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.annotate.collect import Collection, Response, collect_items
from difference_feedback.annotate.responses import read_responses, sample_responses
from difference_feedback.data.dataset import VisualQuestion, load_data
from difference_feedback.data.saved_images import save_images
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.questions import FINAL_ANSWER, grader_of
from difference_feedback.judges.rules import grade
from difference_feedback.runs.check import check
from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import print_problems, write_jsonl
from difference_feedback.runs.lock import check_free, holding
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import EvaluateRecipe
from difference_feedback.runs.rewards import rewards_of
from difference_feedback.runs.sections import Endpoint, PolicyEndpoint
from difference_feedback.runs.servers import check_server
from difference_feedback.runs.serving import free_url
from difference_feedback.runs.terminal import Terminal

STRATA = ("subject", "level")


def collect_folder(
    recipe: EvaluateRecipe,
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

    The recipe says which questions these are, what their prompts are, and who grades the answers. With `serve`, the
    fields of `runs.sections.Serve`, `model` answers behind a vLLM server that is started for this.

    Raises `ConfigError` when the folder already holds repairs, which would not fit new items, or another process works
    in it, and `DataError` when there is no item.
    """
    check_free(output)
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
    check(recipe)
    data = recipe.data
    assert data is not None
    form = prompt_form(recipe.system_prompt, recipe.format_prompt)
    loaded = load_data(data, console, form)
    questions = loaded.questions()
    # The instruction to state the answer, or the format around the question, is for models; people see the bare one.
    bare = load_data(data.model_copy(update={"instruction": ""}), Terminal(quiet=True)).questions()
    with holding(output):
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
        unknown = _unknown_ids(questions, usable, numbered="id" not in loaded.layout.fields)
        collection = collect_items(
            questions,
            usable,
            grader=grader_of(recipe),
            shown={question.id: question.question for question in bare},
            strata={question.id: {name: question.columns.get(name) for name in STRATA} for question in questions},
            **drawing,
        )
        if not collection.items:
            counts = ", ".join(f"{count} {what}" for what, count in collection.counts.items() if count)
            unread = _without_answer(questions, usable) if FINAL_ANSWER.name in rewards_of(recipe) else ""
            remedy = "Sample more answers, or allow shorter ones with --min-words"
            if collection.counts["question unknown"] == len(usable):
                remedy = "Give the responses the ids of their questions"
            raise DataError(f"{data.path}: no response can become an item ({counts}).{unknown}{unread} {remedy}")
        if unknown:
            console.print(unknown.strip(), markup=False)
        for item, question in zip(collection.items, collection.questions, strict=True):
            item["image"] = save_images(question.images, output, item["id"])
            item["rule"] = " + ".join(rewards_of(recipe))
        write_jsonl(items, collection.items)
        return collection


def _unknown_ids(questions: Sequence[VisualQuestion], responses: Sequence[Response], *, numbered: bool) -> str:
    """How many responses have the id of no question, with examples; empty where all ids are known.

    `numbered`: the questions have no ids, and are called by their lines.
    """
    known = dict.fromkeys(question.id for question in questions)
    unknown = [response.question for response in responses if response.question not in known]
    if not unknown:
        return ""
    given, theirs = (", ".join(map(repr, list(dict.fromkeys(names))[:2])) for names in (unknown, known))
    lines = ", the lines' numbers, counted from 1" if numbered else ""
    return (
        f" {len(unknown)} of {len(responses)} responses have the id of no question that was read: theirs are like "
        f"{given}, those of the questions like {theirs}{lines}."
    )


def _without_answer(questions: Sequence[VisualQuestion], responses: Sequence[Response]) -> str:
    """How many responses state no final answer that the rule reads, with one of them; empty where all state one."""
    known = {question.id: question for question in questions}
    texts = [
        response.text.strip()
        for response in responses
        if (of := known.get(response.question)) and grade(response.text, of.answer, of.options or None).where is None
    ]
    if not any(texts):
        return ""
    return (
        f" {len(texts)} of {len(responses)} responses state no final answer that the rule can read "
        f"(docs/reference/grading.md); one ends in {max(texts, key=len)[-80:]!r}. Ask for an answer by "
        "data.instruction, or grade by reward."
    )
