"""Stage 2: GRPO on wrong drafts, its reward's components in the log."""

import pytest
import torch
from transformers import TrainerControl, TrainerState
from trl import GRPOConfig

from difference_feedback import world
from difference_feedback.errors import DataError
from difference_feedback.judges.answers import Rollout
from difference_feedback.repair import rl
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.prompts import save_template
from difference_feedback.repair.rl import fit_rl, train_rl
from difference_feedback.repair.rl_callbacks import StopAtPlateau
from difference_feedback.repair.rl_data import DraftSupply, rl_dataset, rl_drafts
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairRLRecipe
from difference_feedback.world.mixture import stream_problems

VISION = {3, 4, 5, 6, 7}
EOS = 2


def wrong_drafts_for(processor, count=8):
    result = []
    for problem in world.sample_problems("rl", count, 0):
        right = world.correct_answers(problem)[0]
        text = right.rsplit(" ", 1)[0] + " x"
        draft = Rollout([*processor.tokenizer.encode(text), EOS], text, False)
        result.append(WrongDraft(problem, draft, right))
    return result


def settings(folder, **changes):
    values = {
        **{"output_dir": str(folder), "per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 2},
        **{"max_completion_length": 6, "learning_rate": 1e-3, "logging_steps": 1, "beta": 0.0, "loss_type": "grpo"},
        **{"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": "none"},
        **{"disable_tqdm": True, "save_strategy": "no", "seed": 0},
    }
    return GRPOConfig(**(values | changes))


def test_rows_hold_the_prompt_the_draft_and_what_the_grader_reads(frozen):
    drafts = wrong_drafts_for(frozen[1])
    dataset = rl_dataset(drafts, frozen[1], "nano")
    for row, wrong in zip(dataset, drafts, strict=True):
        assert row["draft_ids"] == wrong.draft.token_ids
        assert row["prompt"][-1]["content"][-1]["text"].endswith(f"reference : {wrong.reference} repair :")
        assert row["answer"] == wrong.problem.answer
        assert row["images"][0].tobytes() == wrong.problem.images[0].tobytes()


def test_two_steps_train_and_log_the_components(tmp_path, nano_model):
    model, processor = nano_model
    dataset = rl_dataset(wrong_drafts_for(processor), processor, "nano")
    before = [p.clone() for p in model.parameters()]
    sampled = []

    def by_parity(completion_ids, **_):
        sampled.extend(token for ids in completion_ids for token in ids)
        return [float(sum(ids) % 2) for ids in completion_ids]

    factor = {"half": lambda *, completions, **_: [0.5] * len(completions)}
    trainer = fit_rl(model, processor, dataset, settings(tmp_path), grade=by_parity, factors=factor)
    logs = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logs) == 2
    for row in logs:
        assert row["repair/factor_half"] == 0.5
        assert row["reward"] == pytest.approx(0.5 * (row["repair/correct"] - 0.5 * row["repair/edit_cost"]), abs=1e-5)
        assert 0 < row["repair/edit_cost"] <= 1
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert sampled
    assert not set(sampled) & VISION


def test_drafts_are_wrong_answers_with_a_correct_sibling(frozen):
    model, processor = frozen
    settings = {"max_new_tokens": 4, "progress": None, "grade": lambda p, text: len(text) % 2 == 0}
    drafts = rl_drafts(model, processor, 10, questions=stream_problems("rl", 0), **settings).drafts
    assert len(drafts) == 10
    for wrong in drafts:
        assert wrong.problem.split == "rl"
        assert len(wrong.draft.text) % 2 == 1
        assert len(wrong.reference) % 2 == 0


def test_a_policy_that_is_never_right_gives_no_drafts(frozen):
    with pytest.raises(DataError, match="nearly always right, or nearly always wrong"):
        rl_drafts(*frozen, 2, questions=stream_problems("rl", 0), max_new_tokens=2, progress=None)


def test_a_plateau_stops_training():
    stop, control = StopAtPlateau("reward", window=2, min_gain=0.01), TrainerControl()
    stopped = []
    for value in [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4]:
        stop.on_log(None, TrainerState(), control, logs={"reward": value})
        stopped.append(control.should_training_stop)
    stop.on_log(None, TrainerState(), control, logs={"loss": 1.0})
    assert stopped == [False] * 6 + [True]
    resumed = TrainerState(log_history=[{"reward": value} for value in (0.4, None, 0.4, 0.4, 0.4)])  # one not judged
    control = TrainerControl()
    stop.on_train_begin(None, resumed, control)
    assert control.should_training_stop


def test_a_recipe_is_run_and_leaves_a_model_and_a_summary(tmp_path, monkeypatch, nano_model):
    model, processor = nano_model
    model.save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    save_template("nano", tmp_path / "start")
    monkeypatch.setattr(
        rl, "rl_drafts", lambda policy, processor, n, **_: DraftSupply(wrong_drafts_for(processor, n), n, 0)
    )
    trl = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 6, "max_steps": 9}
    recipe = RepairRLRecipe.model_validate(
        {
            "model": str(tmp_path / "start"),
            "policy": str(tmp_path / "start"),
            "drafts": 6,
            "budget_cpu_seconds": 1e-3,
            "stop_at_plateau": True,
            "evaluation": {"problems": 6, "max_new_tokens": 6, "batch_size": 6},
            "trl": trl | {"logging_steps": 1},
        }
    )
    run = Run(tmp_path / "run", recipe)
    summary = train_rl(recipe, run)
    assert run.finished
    assert summary["updates"] == 1  # the budget was used up by the first
    assert summary["drafts"] == 6
    assert summary["cpu_seconds"] > 1e-3
    assert {"accuracy_at_1", "edit_cost", "feasible_share"} <= set(summary["before"]) & set(summary["after"])
    [row] = [row for row in run.metrics() if "repair/correct" in row]
    assert row["cpu_seconds"] == pytest.approx(summary["cpu_seconds"])
    assert (run.model_path / "repair_template.json").is_file()
