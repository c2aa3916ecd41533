"""The blank-image factor: what is generated for it, when it is 0, and that training's own answers stay the same."""

import math

import numpy as np
import pytest

from difference_feedback import world
from difference_feedback.data.question import without_images
from difference_feedback.judges.answers import Rollout
from difference_feedback.judges.blank_image import stand_in, text_only_accuracy
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.rl import fit_rl
from difference_feedback.repair.rl_data import rl_dataset, rl_drafts
from difference_feedback.repair.rl_trainer import RepairGRPOTrainer
from difference_feedback.runs.sections import TextOnly
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.world.mixture import stream_problems

EOS = 2


def drafts_for(processor, count):
    result = []
    for problem in world.sample_problems("rl", count, 0):
        right = world.correct_answers(problem)[0]
        text = right.rsplit(" ", 1)[0] + " x"
        result.append(WrongDraft(problem, Rollout([*processor.tokenizer.encode(text), EOS], text, False), right))
    return result


@pytest.fixture
def rows(frozen):
    return list(rl_dataset(drafts_for(frozen[1], 3), frozen[1], "nano"))


def test_stand_ins_have_the_image_s_size_and_nothing_of_it():
    image = world.sample_problems("rl", 1, 0)[0].images[0]
    blank, noise = stand_in(image, "blank"), stand_in(image, "noise", seed=3)
    assert blank.size == noise.size == image.size
    assert not np.asarray(blank).any()
    assert np.asarray(noise).std() > 60
    assert stand_in(image, "noise", seed=3).tobytes() == noise.tobytes() != stand_in(image, "noise", 4).tobytes()


def test_each_draft_is_repaired_once_for_each_stand_in_without_its_reference(rows):
    factor = BlankImageFactor(world.correctness_reward)
    blind = factor.blind_rows([rows[0]] * 4 + [rows[1]] * 4)
    assert [row["draft_id"] for row in blind] == [rows[0]["draft_id"]] * 2 + [rows[1]["draft_id"]] * 2
    for row in blind:
        parts = row["prompt"][-1]["content"]
        assert [p["image"].tobytes() for p in parts if p["type"] == "image"] == [i.tobytes() for i in row["images"]]
        assert "reference" not in parts[-1]["text"]
        assert row["draft"] in parts[-1]["text"]
    assert not np.asarray(blind[0]["images"][0]).any()
    assert "reference" in rows[0]["prompt"][-1]["content"][-1]["text"]


def test_the_factor_is_0_for_drafts_repaired_right_without_the_image(rows):
    factor = BlankImageFactor(world.correctness_reward)
    blind = factor.blind_rows(rows)
    texts = ["answer nothing"] * len(blind)
    texts[3] = f"answer {rows[1]['answer']}"  # the second draft, from noise
    share = factor.observe(blind, texts, [[1]] * len(blind))
    assert share == pytest.approx(1 / len(blind))
    assert factor(draft_id=[row["draft_id"] for row in rows]) == [1.0, 0.0, 1.0]
    factor.observe(blind, ["answer nothing"] * len(blind), [[1]] * len(blind))
    assert factor(draft_id=[row["draft_id"] for row in rows]) == [1.0, 1.0, 1.0]


def test_unjudged_blind_repairs_leave_the_factor_at_1(rows):
    factor = BlankImageFactor(lambda *, completions, **_: [None] * len(completions))
    assert math.isnan(factor.observe(factor.blind_rows(rows), ["a"] * 6, [[1]] * 6))  # no share of nothing
    assert factor(draft_id=[row["draft_id"] for row in rows]) == [1.0] * 3


def test_a_right_blind_repair_is_not_wrong_by_rounding(rows):
    factor = BlankImageFactor(lambda *, completions, **_: [float(np.float32(0.9))] * len(completions), threshold=0.9)
    assert factor.observe(factor.blind_rows(rows), ["a"] * 6, [[1]] * 6) == 1.0


def settings(folder):
    return LeanGRPOConfig(
        **{"output_dir": str(folder), "per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 1},
        **{"max_completion_length": 6, "learning_rate": 1e-3, "logging_steps": 1, "beta": 0.0, "loss_type": "grpo"},
        **{"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": "none"},
        **{"disable_tqdm": True, "save_strategy": "no", "seed": 0},
        leave_out_rows=False,  # all rows are to be seen in the loss
    )


def test_in_training_it_sees_stand_ins_and_the_reward_sees_the_images(tmp_path, nano_model):
    model, processor = nano_model
    dataset = rl_dataset(drafts_for(processor, 4), processor, "nano")
    calls = []

    def grade(*, prompts, completions, images, **columns):
        blank = [not np.asarray(of_row[0]).any() for of_row in images]
        calls.append((len(completions), sum(blank)))
        return [1.0] * len(completions)

    trainer = fit_rl(
        model, processor, dataset, settings(tmp_path), grade=grade, factors={"visual": BlankImageFactor(grade)}
    )
    [row] = [row for row in trainer.state.log_history if "reward" in row]
    # Two drafts of four repairs each: four blind rows, two of them blank; then eight repairs with their own images.
    assert calls == [(4, 2), (8, 0)]
    assert row["repair/blind_correct"] == 1
    assert row["repair/factor_visual"] == 0
    assert row["reward"] == 0  # all that is repaired without looking earns nothing
    assert row["repair/reward_without_factors"] > 0
    assert row["completions/max_length"] <= 6


def test_blind_rows_do_not_reach_the_loss(tmp_path, nano_model, monkeypatch):
    model, processor = nano_model
    dataset = rl_dataset(drafts_for(processor, 4), processor, "nano")
    graded, losses = [], []

    def grade(*, completion_ids, **_):
        graded.append([list(ids) for ids in completion_ids])
        return [float(sum(ids) % 2) for ids in completion_ids]

    loss = RepairGRPOTrainer._compute_loss
    monkeypatch.setattr(
        RepairGRPOTrainer, "_compute_loss", lambda self, model, batch: losses.append(batch) or loss(self, model, batch)
    )
    fit_rl(model, processor, dataset, settings(tmp_path), grade=grade, factors={"visual": BlankImageFactor(grade)})
    [batch] = losses
    mask = batch["completion_mask"].bool()
    trained = [ids[keep].tolist() for ids, keep in zip(batch["completion_ids"], mask, strict=True)]
    blind, repairs = graded
    assert (len(blind), len(repairs)) == (4, 8)
    assert sorted(trained) == sorted(repairs)


def test_text_only_prompts_have_no_image_parts():
    prompt = world.sample_problems("rl", 1, 0)[0].prompt
    bare = without_images(prompt)
    assert [part["type"] for part in bare[-1]["content"]] == ["text"]
    assert any(part["type"] == "image" for part in prompt[-1]["content"])
    assert without_images([{"role": "user", "content": "plain"}]) == [{"role": "user", "content": "plain"}]


def test_text_only_accuracy_is_the_share_of_right_samples(frozen):
    problems = world.sample_problems("rl", 3, 0)
    verdicts = iter([True, False, True, True, False, False, False, False, True, True, True, True])
    shares = text_only_accuracy(*frozen, problems, 4, grade=lambda q, t: next(verdicts), max_new_tokens=3)
    assert shares == [0.75, 0.0, 1.0]


def test_problems_solved_from_text_alone_are_removed(frozen):
    grade = lambda question, text: len(text) % 2 == 0  # noqa: E731
    common = {"max_new_tokens": 4, "progress": None, "grade": grade}
    every = rl_drafts(*frozen, 12, questions=stream_problems("rl", 0), text_only=TextOnly(samples=0), **common)
    some = rl_drafts(
        *frozen, 12, questions=stream_problems("rl", 0), text_only=TextOnly(samples=2, threshold=0.5), **common
    )
    assert every.solved_from_text == 0
    assert some.solved_from_text > 0
    assert len(some.drafts) == 12
    assert some.questions >= every.questions
