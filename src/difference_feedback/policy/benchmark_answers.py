"""Answer what the benchmark harness asks, in parts that are kept, so that an interrupted run loses little."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.data.conversations import Conversation, with_system
from difference_feedback.data.image_files import open_image
from difference_feedback.errors import DataError
from difference_feedback.models.end_tokens import end_of
from difference_feedback.models.generate import generate_texts, progress_bar
from difference_feedback.models.processor import context_of
from difference_feedback.models.prompt_lengths import PromptLengths
from difference_feedback.models.ranks import ranks
from difference_feedback.policy.harness_worker import ANSWERS
from difference_feedback.runs.first_rank import is_first_rank, on_first_rank
from difference_feedback.runs.jsonl import JsonLines, read_rows
from difference_feedback.runs.prompts import PromptForm, prompt_form
from difference_feedback.runs.recipes import BenchmarksRecipe

Request = Mapping[str, Any]
"""A row of requests.jsonl; see `policy.harness_worker`."""
_BATCHES = 4  # between two writes


def answer_requests(
    recipe: BenchmarksRecipe, folder: Path, requests: Sequence[Request], model: Any, processor: Any
) -> None:
    """Append an answer to answers.jsonl for each request that has none. All ranks make this call.

    A question that leaves no room for an answer, or whose images cannot be shown, gets an empty answer and the reason
    in `not_asked`.
    """
    form, file = prompt_form(recipe.system_prompt, recipe.format_prompt), JsonLines(folder / ANSWERS)
    done = set(on_first_rank(lambda: [row["key"] for row in read_rows(file.path)]))
    left = [request for request in requests if request["key"] not in done]
    if not left:
        return
    context, longest = context_of(recipe.model), longest_answer(recipe, left[0])
    room = None if context is None else context - longest
    temperature = float(left[0]["temperature"]) if recipe.temperature is None else recipe.temperature
    lengths = PromptLengths(processor, recipe.model)
    size = _BATCHES * recipe.batch_size * ranks().num_processes
    if recipe.endpoint is not None:
        size = max(size, _BATCHES * recipe.endpoint.concurrency)
    with progress_bar(disable=not is_first_rank()) as bar:
        shown = bar.add_task(recipe.tasks[0], total=len(requests), completed=len(requests) - len(left))
        for start in range(0, len(left), size):
            part = left[start : start + size]
            prompts = [in_form(request["conversation"], form) for request in part]
            images, problems = _images(folder, part, recipe.max_pixels)
            problems |= _too_long(lengths, prompts, images, room)
            asked = [i for i in range(len(part)) if i not in problems]
            sampled = generate_texts(
                model,
                processor,
                [prompts[i] for i in asked],
                [images[i] for i in asked],
                max_new_tokens=longest,
                temperature=temperature,
                batch_size=recipe.batch_size,
                seed=recipe.seed + int(part[0]["key"]),
                over_ranks=True,
            )
            answers = dict(zip(asked, (answer for [answer] in sampled), strict=True))
            rows = []
            for i, request in enumerate(part):
                text = until(answers[i].text, request["until"]) if i in answers else ""
                cut_off = i in answers and not end_of(answers[i].token_ids, processor.tokenizer)
                rows.append({"key": request["key"], "response": text, "cut_off": cut_off, "not_asked": problems.get(i)})
            if is_first_rank():
                file.append(*rows)
            bar.advance(shown, len(part))
    ranks().wait_for_everyone()


def longest_answer(recipe: BenchmarksRecipe, request: Request) -> int:
    """The recipe's limit in tokens; without one the task's, but no more than half of the model's context."""
    if recipe.max_new_tokens is not None:
        return recipe.max_new_tokens
    context, own = context_of(recipe.model), int(request["max_new_tokens"])
    return own if context is None else min(own, context // 2)


def in_form(conversation: Conversation, form: PromptForm) -> Conversation:
    """The harness's conversation with the recipe's own texts around it: the system message, and the format prompt.

    The format prompt stands around the user's whole turn, whose images stay where they are.
    """
    if form.fill is None:
        return with_system(conversation, form.system)
    mark = "\0"
    before, _, after = form.question(mark).partition(mark)
    *earlier, turn = conversation
    content = [{"type": "text", "text": before}, *turn["content"], {"type": "text", "text": after}]
    joined: list[dict[str, str]] = []
    for part in content:
        if part["type"] == "text" and joined and joined[-1]["type"] == "text":
            joined[-1] = {"type": "text", "text": joined[-1]["text"] + part["text"]}
        elif part["type"] != "text" or part["text"]:
            joined.append(dict(part))
    return with_system([*earlier, {**turn, "content": joined}], form.system)


def until(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first of `stops`, as the harness's own models cut an answer."""
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _images(folder: Path, part: Sequence[Request], max_pixels: int) -> tuple[list[list[Image.Image]], dict[int, str]]:
    """The images of each request, and by number why some cannot be shown."""
    images: list[list[Image.Image]] = []
    problems: dict[int, str] = {}
    for i, request in enumerate(part):
        try:
            images.append([open_image(folder / name, max_pixels=max_pixels).image for name in request["images"]])
        except DataError as error:
            images.append([])
            problems[i] = f"image: {error}"
    return images, problems


def _too_long(
    lengths: PromptLengths, prompts: Sequence[Conversation], images: Sequence[Sequence[Image.Image]], room: int | None
) -> dict[int, str]:
    """By number, the prompts that leave the model no room for its answer."""
    if room is None:
        return {}
    sizes = [[(image.height, image.width) for image in of_row] for of_row in images]
    parts = [sum(p["type"] == "image" for m in prompt for p in m["content"]) for prompt in prompts]
    whole = [i for i, count in enumerate(parts) if count == len(sizes[i])]
    fits = lengths.fit([prompts[i] for i in whole], [sizes[i] for i in whole], [room] * len(whole))
    why = f"the prompt is longer than {room} tokens, the context without the answer"
    return {i: why for i, fit in zip(whole, fits, strict=True) if not fit}
