"""One's own questions in verl's files: verl's own reader gives the policy's prompt and images, whatever they hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.forms import NAMES, FormFile, write_animation, write_forms
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor

from difference_feedback.data.conversations import fill_images
from difference_feedback.data.dataset import VisualQuestion, load_data
from difference_feedback.judges.questions import FINAL_ANSWER
from difference_feedback.runs.sections import Data
from difference_feedback.verl.problems import source_of, write_questions
from difference_feedback.verl.reward import compute_score
from difference_feedback.world import nano

pytest.importorskip("verl", reason="verl has an environment of its own")
pytestmark = pytest.mark.verl
SETTINGS = {"max_pixels": 56 * 84, "instruction": "Then \\boxed{}."}


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(nano.SHIPPED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (84, 56, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).save(tmp_path / "plain.png")
    Image.fromarray(noise).save(tmp_path / "clear.png")
    Image.fromarray(noise[..., :3]).resize((500, 300)).save(tmp_path / "large.jpg")
    rows: list[dict[str, Any]] = [
        {"question": "Is <image2> larger than <image1>?", "image": ["plain.png", "large.jpg"], "answer": "yes"},
        {"question": "how many ?", "image": "clear.png", "answer": 4, "level": {"a": [1, "x"]}},
        {"question": "2 + 2 ?", "answer": "4", "level": 3},
        {"question": "Which ?", "image": "plain.png", "answer": "B", "options": ["3", "4"], "completions": "mine"},
        {"question": "In HTML, <img> and < audio> and <audio> ?", "image": "plain.png", "answer": "tags"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_by(kind: type, path: Path, processor: Any, **config: Any) -> list[dict[str, Any]]:
    from omegaconf import OmegaConf

    settings = {"max_prompt_length": 10_000, "filter_overlong_prompts_workers": 1, "cache_dir": str(path.parent)}
    dataset = kind(str(path), processor.tokenizer, OmegaConf.create(settings | config), processor)
    return [dataset[i] for i in range(len(dataset))]


def same_prompts(row: dict[str, Any], question: VisualQuestion, processor: Any) -> None:
    """verl's prompt and pixels are those of the policy on the other host."""
    from verl.utils.dataset.rl_dataset import RLHFDataset

    images, _, _ = RLHFDataset._process_multi_modal_info(row["raw_prompt"], 14, None)
    text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
    ours = fill_images(question.prompt, list(question.images))
    assert text == processor.apply_chat_template(ours, add_generation_prompt=True, tokenize=False)
    parts = [
        part for message in row["raw_prompt"] if isinstance(message["content"], list) for part in message["content"]
    ]
    opened = [part["image"] for part in parts if part["type"] == "image"]
    assert [image.tobytes() for image in opened] == [image.tobytes() for image in question.images]
    inputs = [processor(text=text, images=of or None, return_tensors="pt") for of in (images, list(question.images))]
    assert inputs[0]["input_ids"].tolist() == inputs[1]["input_ids"].tolist()
    assert (
        inputs[0].get("image_grid_thw", np.zeros(0)).tolist() == inputs[1].get("image_grid_thw", np.zeros(0)).tolist()
    )


def test_verl_reads_the_prompts_and_images_of_the_policy(file: Path, processor: Any, tmp_path: Path) -> None:
    from difference_feedback.verl.question_dataset import QuestionDataset

    questions = load_data(Data(path=str(file), **SETTINGS)).questions()
    assert len(questions) == 5
    assert write_questions(tmp_path / "train.parquet", questions, source_of(FINAL_ANSWER)) == 5
    rows = read_by(QuestionDataset, tmp_path / "train.parquet", processor)
    for row, question in zip(rows[:4], questions[:4], strict=True):
        same_prompts(row, question, processor)
    text = rows[4]["raw_prompt"][0]["content"][1]["text"]
    assert text.replace("< audio>", "<audio>") == questions[4].question.removeprefix("<image>").replace(
        "< audio>", "<audio>"
    )
    assert (tmp_path / "train.parquet").stat().st_size < 40_000, "no pixels"


def test_rows_without_image_with_bytes_and_with_frames(file: Path, processor: Any, tmp_path: Path) -> None:
    from difference_feedback.verl.question_dataset import QuestionDataset

    animation = write_animation(tmp_path / "grey.webp")
    bytes_of = (file.parent / "large.jpg").read_bytes()
    kinds: dict[str, list[dict[str, Any]]] = {
        "none": [{"question": "2 + 2 ? <audio>", "answer": "4"}],
        "held": [{"question": "how many ?", "image": {"bytes": bytes_of}, "answer": "4"}],
        "frames": [{"question": "what is in <video> ?", "video": str(animation), "answer": "4"}],
    }
    for name, rows in kinds.items():
        Dataset.from_list(rows).to_parquet(tmp_path / f"{name}.parquet")
        questions = load_data(Data(path=str(tmp_path / f"{name}.parquet"), **SETTINGS)).questions()
        write_questions(tmp_path / name / "train.parquet", questions, "final-answer")
        [row] = read_by(QuestionDataset, tmp_path / name / "train.parquet", processor)
        same_prompts(row, questions[0], processor)


def test_verls_own_class_reads_files_whose_images_need_no_change(file: Path, processor: Any, tmp_path: Path) -> None:
    from verl.utils.dataset.rl_dataset import RLHFDataset

    questions = [load_data(Data(path=str(file), **SETTINGS)).questions()[i] for i in (2, 3)]
    write_questions(tmp_path / "plain.parquet", questions, "final-answer")
    rows = read_by(RLHFDataset, tmp_path / "plain.parquet", processor)
    assert [part["type"] for part in rows[1]["raw_prompt"][0]["content"]] == ["image", "text"]
    assert rows[1]["raw_prompt"][0]["content"][0]["image"] == str(file.parent / "plain.png")


def test_answers_are_graded_with_the_columns_of_their_row(file: Path, tmp_path: Path) -> None:
    questions = load_data(Data(path=str(file), **SETTINGS)).questions()
    write_questions(tmp_path / "train.parquet", questions, source_of(FINAL_ANSWER))
    right = ["\\boxed{yes}", "\\boxed{4}", "\\boxed{4}", "\\boxed{B}", "\\boxed{tags}"]
    for row, answer in zip(
        Dataset.from_parquet(str(tmp_path / "train.parquet")).with_format("numpy"), right, strict=True
    ):
        truth = str(row["reward_model"]["ground_truth"])
        for text, score in ((answer, 1.0), ("\\boxed{77}", 0.0)):
            assert compute_score(str(row["data_source"]), text, truth, row["extra_info"])["score"] == score


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FormFile]:
    return write_forms(tmp_path_factory.mktemp("forms"))


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_read_by_verl(files: dict[str, FormFile], processor: Any, tmp_path: Path, name: str) -> None:
    from difference_feedback.verl.question_dataset import QuestionDataset

    questions = load_data(files[name].data).questions()
    write_questions(tmp_path / "train.parquet", questions, source_of(FINAL_ANSWER))
    rows = read_by(QuestionDataset, tmp_path / "train.parquet", processor)
    for row, question in zip(rows, questions, strict=True):
        same_prompts(row, question, processor)
        extra = dict(row["extra_info"])
        truth = row["reward_model"]["ground_truth"]
        scores = [compute_score("final-answer", f"\\boxed{{{a}}}", truth, extra)["score"] for a in (truth, "zebra")]
        assert scores == [1.0, 0.0]
