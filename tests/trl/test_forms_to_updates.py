"""Every known form of rows, from its file to the tensors of one update, to the repair model, and to graded answers."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl_world
from data.forms import COLORS, NAMES, FormFile, picture, write_animation, write_forms, write_jsonl
from rich.console import Console
from trl.trainer.utils import split_pixel_values_by_grid

from difference_feedback.annotate.collection import collect_folder
from difference_feedback.annotate.items import find_work
from difference_feedback.data.conversations import bare, fill_images
from difference_feedback.data.dataset import VisualQuestion
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.judges.audit import AuditCase
from difference_feedback.judges.endpoint_auditor import request
from difference_feedback.judges.questions import training_data, training_questions
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import RepairPrompt
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import sft_dataset
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, TrainRecipe
from difference_feedback.runs.sections import Data
from difference_feedback.trl import DFGRPOTrainer

GROUP = 8


def videos(folder: Path) -> FormFile:
    """Frames are images from here on: of an animation, as files between two texts, and beside an image."""
    for color in COLORS:
        picture(color).save(folder / f"{color}.png")
    write_animation(folder / "grey.webp")
    rows = [
        {"question": "How bright is it at the end?", "video": "grey.webp", "answer": "220"},
        {"question": "Before. <video> After?", "video": ["red.png", "blue.png"], "answer": "brighter"},
        {"question": "Is <image> in <video>?", "image": "red.png", "video": "grey.webp", "answer": "no"},
        {"question": "And without?", "answer": "yes"},
    ]
    return FormFile(Data(path=str(write_jsonl(folder / "videos.jsonl", rows)), instruction="", video_frames=3), [])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FormFile]:
    return write_forms(tmp_path_factory.mktemp("forms")) | {"videos": videos(tmp_path_factory.mktemp("videos"))}


@pytest.fixture(scope="module")
def loaded(checkpoint: Callable[[str], Path]) -> tuple[Any, Any]:
    return load_model(str(checkpoint("qwen2_5_vl")))


class Watched(LocalRepairer):
    """A real repair model that notes what it is asked."""

    requests: list[RepairRequest]

    def repair(self, requests: Any, num_samples: int = 1) -> list[list[Repair]]:
        self.requests = list(requests)
        return super().repair(requests, num_samples)


def inputs_of(question: VisualQuestion, processor: Any) -> dict[str, Any]:
    """What the processor itself makes of the question's prompt by its chat template."""
    turns = fill_images(question.prompt, list(question.images))
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    images = list(question.images) or None
    return dict(processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt"))


@pytest.mark.parametrize("name", [*NAMES, "videos"])
def test_a_form_reaches_an_update_and_a_verdict(
    files: dict[str, FormFile], loaded: tuple[Any, Any], tmp_path: Path, name: str
) -> None:
    model, processor = loaded
    recipe = TrainRecipe.model_validate({"model": model.name_or_path, "data": files[name].data.model_dump()})
    dataset, grader = training_data(recipe)
    questions = list(training_questions(recipe))
    size = GROUP * len(dataset)
    repairer = Watched(copy.deepcopy(model), processor, max_new_tokens=8)
    settings = {"num_generations": GROUP, "per_device_train_batch_size": size, "max_steps": 1, "sibling_repairs": True}
    trainer = DFGRPOTrainer(
        copy.deepcopy(model),
        trl_world.parity,
        trl_world.config(tmp_path, **settings),
        train_dataset=dataset,
        processing_class=processor,
        repairer=repairer,
    )
    before, batches = trl_world.weights_of(trainer.model), []
    make = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda rows: batches.append(make(rows)) or batches[-1]
    trainer.train()

    [batch] = batches
    assert len(trainer.last_pairs) > 0
    assert np.isfinite(trainer.state.log_history[0]["grad_norm"])
    after = trl_world.weights_of(trainer.model)
    assert any(not torch.equal(after[key], value) for key, value in before.items())
    check_rows(batch, [inputs_of(question, processor) for question in questions], processor)
    assert repairer.requests
    known = [(question.prompt, [image.tobytes() for image in question.images]) for question in questions]
    for asked in repairer.requests:
        assert (asked.prompt, [image.tobytes() for image in asked.images]) in known

    right = [f"So it is \\boxed{{{question.answer}}}." for question in questions]
    assert grader.grade(questions, right) == [True] * len(questions)
    assert grader.grade(questions, ["So it is \\boxed{a zebra}."] * len(questions)) == [False] * len(questions)


def check_rows(batch: dict[str, Any], expected: list[dict[str, Any]], processor: Any) -> None:
    """Each row of an update has the prompt of a question as the processor makes it, and the pixels of its images."""
    image_token, merged = processor.image_token_id, processor.image_processor.merge_size**2
    with_pixels = batch.get("image_grid_thw") is not None
    rows = split_pixel_values_by_grid(batch) if with_pixels else batch
    none, num_patches = torch.zeros(0, 3, dtype=torch.long), 0
    for i, (ids, mask) in enumerate(zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)):
        prompt = ids[mask == 1]
        pixels = rows["pixel_values"][i] if with_pixels else torch.zeros(0)
        same = [
            inputs
            for inputs in expected
            if inputs["input_ids"][0].tolist() == prompt.tolist()
            and torch.equal(inputs.get("pixel_values", torch.zeros(0)).flatten(), pixels.flatten())
        ]
        assert same, "the processor makes this of no question"
        grids = same[0].get("image_grid_thw", none)
        assert torch.equal(rows["image_grid_thw"][i] if with_pixels else none, grids)
        assert (prompt == image_token).sum() == grids.prod(-1).sum() // merged
        num_patches += int(grids.prod(-1).sum())
    assert len(batch["pixel_values"] if with_pixels else []) == num_patches


@pytest.mark.parametrize("name", [*NAMES, "videos"])
def test_wrong_answers_to_a_form_become_items_and_rows_of_a_repair_model(
    files: dict[str, FormFile], loaded: tuple[Any, Any], tmp_path: Path, name: str
) -> None:
    _, processor = loaded
    values = {"data": files[name].data.model_dump(), "system_prompt": "look closely", "format_prompt": "{question} !"}
    questions = {q.id: q for q in training_questions(TrainRecipe.model_validate(values))}
    answers = [(id, f"because {text}") for id, q in questions.items() for text in (f"\\boxed{{{q.answer}}}", "zebra")]
    responses = write_jsonl(tmp_path / "r.jsonl", [{"id": id, "response": text} for id, text in answers])
    drawing = {"limit": None, "per_question": 1, "min_words": 0, "seed": 0}
    recipe = EvaluateRecipe.model_validate(values)
    output, console = tmp_path / "out", Console(quiet=True)
    collect_folder(recipe, output, responses=[responses], sampling={}, drawing=drawing, console=console)
    work, _ = find_work(output)
    assert work is not None
    assert work.problems == []
    assert {row["id"] for row in work.rows} == set(questions)
    repaired = [row | {"repaired": "because 4", "annotator": "ada"} for row in work.rows]
    repair_set = load_repair_set(write_jsonl(output / "items.annotated.jsonl", repaired))
    assert repair_set.errors == []
    asked = RepairPrompt("full", processor)
    for example, row in zip(repair_set.rows, sft_dataset(repair_set.rows, processor, "full"), strict=True):
        question = questions[example.id.removesuffix(" by ada")]
        assert bare(row["prompt"]) == asked(question.prompt, "because zebra", f"because \\boxed{{{question.answer}}}")
        assert [image.tobytes() for image in row["images"]] == [image.tobytes() for image in question.images]


@pytest.mark.parametrize("name", ["plain", "videos"])
def test_an_auditor_sees_the_images_of_its_case_or_none(files: dict[str, FormFile], name: str) -> None:
    for question in training_questions(TrainRecipe.model_validate({"data": files[name].data.model_dump()})):
        asked = request(AuditCase(question.question, tuple(question.images), "draft", "repair", "reference", None))
        parts = [part["type"] for part in asked.messages[-1]["content"]]
        assert parts == ["image"] * len(question.images) + ["text"]
        assert len(asked.images) == len(question.images)


@pytest.mark.parametrize("visual", [True, False], ids=["blank-image test", "without"])
def test_a_repair_model_is_trained_on_questions_with_any_number_of_images(
    checkpoint: Callable[[str], Path], files: dict[str, FormFile], tmp_path: Path, visual: bool
) -> None:
    """A question without an image has nothing to blank: it is left out and counted, unless the test is off."""
    (tmp_path / "mine.py").write_text(
        "def even(completions, **_):\n    return [float(len(c[-1]['content']) % 2 == 0) for c in completions]\n"
    )
    rows = [
        {"id": "none", "question": "2 + 2 ?", "answer": "4"},
        {"id": "two", "question": "<image2> or <image1> ?", "image": ["red.png", "blue.png"], "answer": "4", "n": [1]},
        {"id": "film", "question": "what is in <video> ?", "video": "grey.webp", "answer": "4", "n": "x", "draft": 3},
    ]
    for color in ("red", "blue"):
        picture(color).save(tmp_path / f"{color}.png")
    write_animation(tmp_path / "grey.webp")
    model = str(checkpoint("qwen2_5_vl"))
    recipe = RepairRLRecipe.model_validate(
        {
            **{"model": model, "policy": model, "drafts": 8, "audit": {"enabled": False}, "text_only": {"samples": 0}},
            **{"data": {"path": str(write_jsonl(tmp_path / "own.jsonl", rows)), "video_frames": 2}},
            **{"reward": f"{tmp_path / 'mine.py'}:even", "visual_factor": {"enabled": visual}},
            "evaluation": {"max_new_tokens": 6},
            "trl": {
                **{"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 1, "max_completion_length": 6},
                **{"learning_rate": 1e-3, "logging_steps": 1},
            },
        }
    )
    run = Run(tmp_path / "run", recipe)
    summary = train_rl(recipe, run)
    assert summary["removed_without_image"] == int(visual)
    assert summary["questions"] == 3 - visual
    [row] = [row for row in run.metrics() if "reward" in row]
    assert np.isfinite(row["reward"])
    assert ("repair/blind_correct" in row) == visual


def test_questions_without_any_image_cannot_pass_the_blank_image_test(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model, path = str(checkpoint("qwen2_5_vl")), write_jsonl(tmp_path / "own.jsonl", [{"question": "?", "answer": "4"}])
    values = {"model": model, "policy": model, "audit": {"enabled": False}, "data": {"path": str(path)}}
    recipe = RepairRLRecipe.model_validate(values | {"trl": {"per_device_train_batch_size": 8}})
    with pytest.raises(Exception, match=r"visual_factor\.enabled=false"):
        train_rl(recipe, Run(tmp_path / "run", recipe))
