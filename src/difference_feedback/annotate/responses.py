"""Responses to a data set's questions: read from files, or sampled from a local model or an endpoint."""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from difference_feedback.annotate.collect import Response
from difference_feedback.data.dataset import VisualQuestion
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.runs.file_names import bare_name
from difference_feedback.runs.jsonl import JsonLines, RowProblem, read_input
from difference_feedback.runs.sections import Endpoint, PolicyEndpoint
from difference_feedback.runs.serving import serving

ROUND = 32  # questions that are asked before their answers are saved
Answered = list[tuple[str, list[str]]]
"""The id of a question, and the texts of its answers."""


def read_responses(paths: Sequence[Path]) -> tuple[list[Response], list[str]]:
    """Read rows `{"id", "response", "model"?}`. The second list describes unusable rows, by file and line.

    Raises `DataError` when no row can be used.
    """
    responses: list[Response] = []
    descriptions: list[str] = []
    for path in paths:
        rows, problems = read_input(path)
        for line, values in rows:
            kinds = {"id": (str, int), "response": (str,)}
            bad_field = next((name for name, types in kinds.items() if type(values.get(name)) not in types), None)
            if bad_field:
                problems.append(RowProblem(line, bad_field, "missing; give the question's id and the response"))
            else:
                model = str(values.get("model", bare_name(path)))
                responses.append(Response(str(values["id"]), values["response"], model))
        descriptions += [f"{path.name}, {problem}" for problem in problems]
    if not responses:
        listed = "; ".join(descriptions[:3]) or "there are no rows"
        raise DataError(f"{', '.join(map(str, paths))}: no response can be used: {listed}")
    return responses, descriptions


def sample_responses(
    questions: Sequence[VisualQuestion],
    path: Path,
    samples: int,
    *,
    model: str | None = None,
    endpoint: Endpoint | None = None,
    served: PolicyEndpoint | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    batch_size: int = 64,
    max_new_tokens: int = 512,
    temperature: float = 1.0,
    seed: int = 0,
    console: Any = None,
) -> int:
    """Sample `samples` answers to each question from a `model` or an `endpoint`, and append them to `path`.

    The model is loaded into this process in `dtype` (by default bfloat16 on a GPU, float32 on a CPU), and `batch_size`
    sequences are sampled at a time; or it answers behind `served`, which is started for this where it says so.

    An interrupted call can be continued: rounds of questions that have all their answers in the file are not asked
    again. A round that was cut off gets the seeds that it had, so the file ends as that of an uninterrupted call does.
    Returns the number of questions without an answer after all retries; the next call asks them again.

    Raises `ConfigError` where the file holds answers of another model, with other settings, or to other prompts.
    """
    rows, name = JsonLines(path), model or (endpoint.model if endpoint else "")
    settings = {"model": name, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    asked = {question.id: settings | {"prompt": _prompt_hash(question)} for question in questions}
    counts: dict[str, int] = {}
    for _, row in rows.read()[0]:
        _check_alike(path, row, asked.get(str(row.get("id")), settings))
        counts[str(row.get("id"))] = counts.get(str(row.get("id")), 0) + 1
    rounds = [questions[i : i + ROUND] for i in range(0, len(questions), ROUND)]
    unanswered = {question.id for question in questions if counts.get(question.id, 0) < samples}
    if not unanswered:
        return 0
    failed = 0
    from rich.progress import track

    path.parent.mkdir(parents=True, exist_ok=True)
    with serving({"collect": served} if served and served.serve else {}, path.parent):
        if model:
            ask = _by_model(model, served, dtype, attention, batch_size, max_new_tokens, temperature)
        else:
            ask = _by_endpoint(endpoint, max_new_tokens, temperature)
        for number, batch in enumerate(track(rounds, "Sampling answers", console=console, transient=True)):
            if all(counts.get(question.id, 0) >= samples for question in batch):
                continue
            answers: list[dict[str, Any]] = []
            for question, texts in ask(batch, unanswered, samples, seed + number):
                failed += not texts
                kept = texts[counts.get(question, 0) : samples]
                answers += [{"id": question, "response": text, **asked[question]} for text in kept]
            rows.append(*answers)
    return failed


def _prompt_hash(question: VisualQuestion) -> str:
    """Differs between prompts, their images included, by the names and sizes of these."""
    pictures = [
        (Path(picture["path"]).name, picture["height"], picture["width"])
        for picture in getattr(question.images, "pictures", ())
    ]
    return hashlib.sha1(json.dumps([question.prompt, pictures]).encode()).hexdigest()[:12]


def _check_alike(path: Path, row: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `ConfigError` where an answer in the file was sampled in another way than is `asked` for now."""
    for key, now in asked.items():
        if (before := row.get(key, now)) == now:  # files of the release before have the model alone
            continue
        what = f"were sampled with {key} {before!r}, and it is {now!r} now"
        if key == "prompt":
            what = f"were given to another prompt of question {row.get('id')} (data, system_prompt, format_prompt)"
        raise ConfigError(f"{path}: answers {what}: give another --output, or take these answers by --responses {path}")


def _by_model(
    name: str,
    served: PolicyEndpoint | None,
    dtype: str | None,
    attention: str | None,
    batch_size: int,
    max_new_tokens: int,
    temperature: float,
) -> Any:
    from difference_feedback.judges.served_model import ServedModel
    from difference_feedback.models.generate import answer_questions
    from difference_feedback.models.load import load_model

    model: Any
    if served is not None:
        model = ServedModel(served, name)
        processor = model.processor
    else:
        import torch

        gpu = torch.cuda.is_available()
        model, processor = load_model(name, dtype=dtype or ("bfloat16" if gpu else "float32"), attention=attention)
        model.to("cuda" if gpu else "cpu")

    def ask(batch: Sequence[VisualQuestion], unanswered: Container[str], samples: int, seed: int) -> Answered:
        answers = answer_questions(  # the whole round: what a model samples depends on all that is in the batch
            model,
            processor,
            batch,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            num_samples=samples,
            batch_size=max(1, batch_size // samples),
            seed=seed,
        )
        texts = [(question.id, [answer.text for answer in of]) for question, of in zip(batch, answers, strict=True)]
        return [(name, of_question) for name, of_question in texts if name in unanswered]

    return ask


def _by_endpoint(endpoint: Endpoint | None, max_new_tokens: int, temperature: float) -> Any:
    assert endpoint is not None
    client = ChatClient(endpoint)

    def ask(batch: Sequence[VisualQuestion], unanswered: Container[str], samples: int, seed: int) -> Answered:
        settings: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens, "n": samples}
        asked = [(i, question) for i, question in enumerate(batch) if question.id in unanswered]
        requests = [
            ChatRequest(question.prompt, question.images, seed=seed * ROUND + i, **settings) for i, question in asked
        ]
        texts = [[text for text in answer.texts or () if text is not None] for answer in client.ask(requests)]
        return [(question.id, of_question) for (_, question), of_question in zip(asked, texts, strict=True)]

    return ask
