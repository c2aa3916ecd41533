"""A recipe's system message and format prompt: the same prompt in training, evaluation, drafts, repairs and on verl."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image

from difference_feedback.data.conversations import bare
from difference_feedback.judges.questions import (
    draft_questions,
    grader_of,
    held_out,
    labelled_problems,
    training_data,
    training_questions,
)
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.repair.prompts import RepairPrompt
from difference_feedback.repair.sft import sft_dataset
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.verl.problems import source_of, write_questions
from difference_feedback.world import sample_problems

KEYS = {"system_prompt": "look closely", "format_prompt": "{question} answer in \\boxed{}"}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    row = {"question": "what is in <image> ?", "image": "a.png", "options": ["A", "B"], "answer": "A"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return {"path": str(tmp_path / "rows.jsonl")}


def texts(prompt: Sequence[Any]) -> list[tuple[str, str]]:
    """Each message's role, and its text with a mark for each image."""
    return [
        (m["role"], "".join("<image>" if part["type"] == "image" else part["text"] for part in m["content"]))
        for m in prompt
    ]


def test_own_questions_have_the_same_prompt_everywhere(data: dict[str, str], tmp_path: Path) -> None:
    wanted = [("system", "look closely"), ("user", "what is in <image> ?\nChoose one of A, B. answer in \\boxed{}")]
    training = TrainRecipe.model_validate({"data": data, "test_data": data, **KEYS})
    dataset, grader = training_data(training)
    prompts = [
        dataset[0]["prompt"],
        training_questions(training)[0].prompt,
        held_out(training)[0][0].prompt,
        held_out(EvaluateRecipe.model_validate({"data": data, **KEYS}))[0][0].prompt,
        next(draft_questions(RepairRLRecipe.model_validate({"data": data, **KEYS}))).prompt,
    ]
    assert [texts(prompt) for prompt in prompts] == [wanted] * len(prompts)
    write_questions(tmp_path / "train.parquet", training_questions(training), source_of(grader))
    [row] = Dataset.from_parquet(str(tmp_path / "train.parquet"))
    assert [(message["role"], message["content"]) for message in row["prompt"]] == wanted
    assert grader.grade(training_questions(training), ["\\boxed{A}"]) == [True]


def test_embedded_problems_have_it_too_and_are_graded_and_repaired_as_before(frozen: tuple[Any, Any]) -> None:
    values = {"problems": 12, "evaluation": {"problems": 12}, **KEYS}
    training = TrainRecipe.model_validate(values)
    rl, sft = RepairRLRecipe.model_validate(KEYS), RepairSFTRecipe.model_validate({"system_prompt": "look closely"})
    plain = sample_problems("rl", 12, 0)
    for problem, formed in zip(plain, training_questions(training), strict=True):
        [(_, question)] = texts(problem.prompt)
        assert texts(formed.prompt) == [("system", "look closely"), ("user", f"{question} answer in \\boxed{{}}")]
        assert formed.answer == problem.answer
    for problems in (held_out(training)[0], list(islice(draft_questions(rl), 12)), held_out(sft)[0]):
        assert {texts(problem.prompt)[0] for problem in problems} == {("system", "look closely")}
    assert texts(next(labelled_problems(sft)).prompt)[0] == ("system", "look closely")
    questions = training_questions(training)
    assert grader_of(training).grade(questions, [f"answer {q.answer}" for q in questions]) == [True] * 12
    tokenizer = frozen[1].tokenizer
    oracle = embedded_repairer("oracle", tokenizer, [q for q in questions if hasattr(q, "facts")])  # type: ignore[misc]
    [[repair]] = oracle.repair([RepairRequest(questions[0].prompt, list(questions[0].images), [5, 6], None)])
    assert grader_of(training).grade(questions[:1], [repair.text]) == [True]


@pytest.mark.parametrize("style", ["nano", "full"])
def test_a_repair_prompt_is_that_of_the_policy_with_one_system_message_in_training_and_in_use(
    style: str, frozen: tuple[Any, Any]
) -> None:
    model, processor = frozen
    recipe = RepairSFTRecipe.model_validate({"system_prompt": "look closely"})
    sampling: dict[str, Any] = {"problems": labelled_problems(recipe), "seed": recipe.seed, "max_new_tokens": 24}
    rows = oracle_repairs(model, processor, 3, progress=None, **sampling)
    dataset = sft_dataset(rows, processor, style, "look closely")
    problems = {problem.question: problem for problem in islice(labelled_problems(recipe), 200)}
    for row, trained in zip(rows, dataset, strict=True):
        policy_prompt = problems[row.question].prompt
        used = RepairPrompt(style, processor)(bare(policy_prompt), row.draft, row.reference)
        assert texts(trained["prompt"]) == texts(used)
        assert [message["role"] for message in used] == ["system", "user"]
        rendered = processor.apply_chat_template(used, add_generation_prompt=True, tokenize=False)
        assert rendered.count("look closely") == 1
