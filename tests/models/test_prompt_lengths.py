"""Prompts are counted before a model is loaded, as its processor makes them, and long ones are left out and listed."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from difference_feedback.data.conversations import conversation, fill_images, with_system
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.questions import draft_questions, held_out, part_of, training_data, training_questions
from difference_feedback.models.fitting import Room, fitting, room_for_prompts
from difference_feedback.models.processor import context_of, load_processor
from difference_feedback.models.prompt_lengths import PromptLengths
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, TrainRecipe


def by_the_processor(processor: Any, prompt: Any, sizes: Any) -> int:
    images = [Image.new("RGB", (width, height), "red") for height, width in sizes]
    text = processor.apply_chat_template([fill_images(prompt, images)], add_generation_prompt=True, tokenize=False)
    inputs = processor(text=text, images=[images] if images else None, add_special_tokens=False, return_tensors="pt")
    return int(inputs["input_ids"].shape[1])


@pytest.mark.parametrize("quick", ["right", "too few", "by size", "missing"])
def test_counts_are_those_of_the_processor_whatever_its_own_number_says(
    quick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = load_processor("nano")
    kind, own = type(processor), type(processor)._get_num_multimodal_tokens

    def wrong(self: Any, image_sizes: Any) -> dict[str, list[int]]:
        numbers = own(self, image_sizes=image_sizes)["num_image_tokens"]
        return {
            "num_image_tokens": [
                n - (3 if quick == "too few" else size[0] % 5) for n, size in zip(numbers, image_sizes, strict=True)
            ]
        }

    if quick == "missing":
        monkeypatch.delattr(kind, "_get_num_multimodal_tokens")
    elif quick != "right":
        monkeypatch.setattr(kind, "_get_num_multimodal_tokens", wrong)
    rng = np.random.default_rng(0)
    prompts, sizes = [], []
    for i in range(12):
        count = [1, 0, 2, 3][i % 4]
        prompts.append(conversation("how many things are there ? " * (i + 1), count))
        sizes.append([(int(h), int(w)) for h, w in rng.integers(28, 200, (count, 2))])
    wanted = [by_the_processor(processor, *row) for row in zip(prompts, sizes, strict=True)]
    assert PromptLengths(processor, "nano").count(prompts, sizes) == wanted


def test_a_template_that_refuses_or_drops_the_system_message_is_named() -> None:
    processor = load_processor("nano")
    prompts = [with_system(conversation("what ?", 1), "look closely")]
    assert PromptLengths(processor, "nano").count(prompts, [[(56, 56)]])[0] > 0
    before = processor.chat_template
    try:
        for start in ("{{ raise_exception('no system role') }}", ""):
            processor.chat_template = (
                "{% for m in messages %}{% if m['role'] == 'system' %}"
                + start
                + "{% else %}{{ m['content'][-1]['text'] }}"
                "{% endif %}{% endfor %}"
            )
            with pytest.raises(ConfigError, match=r"system_prompt: .*nano"):
                PromptLengths(processor, "nano").count(prompts, [[]])
    finally:
        processor.chat_template = before


def test_what_is_too_long_is_left_out_and_listed_with_its_length() -> None:
    printed = io.StringIO()
    lengths = [10, 50, 20, 30]
    kept = fitting(
        "rows.jsonl", lengths, [f"line {i}" for i in (1, 3, 4, 9)], Room(30, "raise it"), Console(file=printed)
    )
    assert kept == [0, 2, 3]
    assert "line 3: 50 tokens" in printed.getvalue()
    assert "raise it" in printed.getvalue()
    with pytest.raises(DataError, match="shortest has 10"):
        fitting("rows.jsonl", lengths, ["a", "b", "c", "d"], Room(9, "raise it"), Console(file=printed))
    assert fitting("rows.jsonl", lengths, [""] * 4, Room(None, ""), Console(file=printed)) == [0, 1, 2, 3]


def test_the_context_holds_the_answer_too() -> None:
    context = context_of("nano")
    assert context is not None
    assert room_for_prompts("nano", 100, None).tokens == context - 100
    assert room_for_prompts("nano", 100, 50).tokens == 50
    assert room_for_prompts("nano", 100, context).tokens == context - 100
    with pytest.raises(ConfigError, match="no room"):
        room_for_prompts("nano", context, None)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"id": str(i), "question": "red " * i + "?", "image": "a.png", "answer": str(i)} for i in range(1, 41)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(tmp_path / "rows.jsonl"), "instruction": ""}


def test_every_kind_of_run_leaves_long_prompts_out(data: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    processor = load_processor("nano")
    limit = by_the_processor(processor, conversation("red " * 30 + "?", 1), [(56, 56)])
    values: dict[str, Any] = {"data": data, "max_prompt_length": limit}
    short = [str(i) for i in range(1, 31)]
    assert list(training_data(TrainRecipe.model_validate(values))[0]["answer"]) == short
    assert "line 31" in capsys.readouterr().err
    assert [q.answer for q in training_questions(TrainRecipe.model_validate(values))] == short
    assert [q.answer for q in held_out(EvaluateRecipe.model_validate(values))[0]] == short
    tested = TrainRecipe.model_validate(values | {"test_data": data})
    assert [q.answer for q in held_out(tested)[0]] == short
    assert sorted(int(q.answer) for q in draft_questions(RepairRLRecipe.model_validate(values))) == list(range(1, 31))
    on_verl = {"data": data, "host": "verl", "verl": {"data": {"max_prompt_length": limit}}}
    assert [q.answer for q in training_questions(TrainRecipe.model_validate(on_verl))] == short
    context = context_of("nano")
    assert context is not None
    room = {"data": data, "trl": {"max_completion_length": context - limit}}
    assert list(training_data(TrainRecipe.model_validate(room))[0]["answer"]) == short


def test_embedded_problems_are_limited_only_by_the_key() -> None:
    problems = training_questions(TrainRecipe.model_validate({"problems": 60}))
    sizes = [[(image.height, image.width) for image in problem.images] for problem in problems]
    lengths = PromptLengths(load_processor("nano"), "nano").count([p.prompt for p in problems], sizes)
    limit = sorted(lengths)[len(lengths) // 2]
    short = training_questions(TrainRecipe.model_validate({"problems": 60, "max_prompt_length": limit}))
    assert list(short) == [p for p, length in zip(problems, lengths, strict=True) if length <= limit]
    assert 0 < len(short) < len(problems)
    with pytest.raises(DataError, match="shortest"):
        training_questions(TrainRecipe.model_validate({"problems": 60, "max_prompt_length": 1}))
    with pytest.raises(DataError, match="shortest"):
        next(draft_questions(RepairRLRecipe.model_validate({"max_prompt_length": 1})))


def test_a_number_of_problems_draws_from_one_s_own_data_by_the_seed(data: dict[str, str]) -> None:
    def drawn(problems: int | None, seed: int = 9000) -> list[int]:
        recipe = EvaluateRecipe.model_validate({"data": data, "evaluation": {"problems": problems, "seed": seed}})
        return [int(question.answer) for question in held_out(recipe)[0]]

    assert drawn(None) == drawn(40) == drawn(500) == list(range(1, 41))
    some = drawn(10)
    assert some == drawn(10) == sorted(some) != list(range(1, 11))
    assert len(set(some)) == 10
    assert drawn(10, seed=1) != some
    recipe = EvaluateRecipe.model_validate({"data": data})
    questions = held_out(recipe)[0]
    part = part_of(questions, 10, 9000)
    assert [int(q.answer) for q in part] == some
    assert part_of(questions, None, 0) == questions
