"""Stage 2 as a recipe runs it: its factors, its ablations, its objectives, real data, resuming."""

import json
import shutil

import pytest
import torch
from overwritten import left_after_overwriting
from safetensors.torch import load_file

from difference_feedback import world
from difference_feedback.judges import questions
from difference_feedback.judges.questions import draft_questions, rule_grader_of
from difference_feedback.judges.rules import final_answer_reward, matches
from difference_feedback.repair import rl
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import NANO
from difference_feedback.repair.rl import auditor_of, factors_of, train_rl
from difference_feedback.repair.rl_data import fitting_drafts, rl_dataset, rl_drafts
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import RepairRLRecipe
from difference_feedback.world.nano import load_base

QUICK = {
    **{"drafts": 8, "evaluation": {"problems": 12, "max_new_tokens": 40, "batch_size": 12}},
    "text_only": {"samples": 0},
    "trl": {
        **{"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 24, "max_steps": 1},
        **{"logging_steps": 1, "learning_rate": 1e-3, "gradient_checkpointing": False, "beta": 0.0},
    },
}


def recipe_with(**changes):
    trl = QUICK["trl"] | changes.pop("trl", {})
    return RepairRLRecipe.model_validate(QUICK | {"trl": trl, "model": "nano"} | changes)


def test_without_the_audit_the_visual_factor_remains():
    recipe = recipe_with(audit={"enabled": False})
    assert auditor_of(recipe) is None
    assert set(factors_of(recipe, lambda **_: [], auditor_of(recipe), None)) == {"visual"}
    assert set(factors_of(recipe_with(), lambda **_: [], auditor_of(recipe_with()), None)) == {"visual", "audit"}


def test_sft_only_measures_and_hands_the_model_on_untrained(tmp_path):
    run = Run(tmp_path / "run", recipe_with(sft_only=True))
    summary = train_rl(run.recipe, run)
    assert (summary["updates"], summary["cpu_seconds"]) == (0, 0.0)
    assert summary["before"] == summary["after"]
    kept = LocalRepairer.from_pretrained(run.model_path)
    assert kept.prompt.template == NANO
    assert all(torch.equal(a, b) for a, b in zip(kept.model.parameters(), load_base()[0].parameters(), strict=True))


def test_the_objective_reaches_the_trainer(tmp_path, monkeypatch):
    levels = []
    monkeypatch.setattr(rl, "fit_rl", lambda *a, **k: levels.append(a[3].importance_sampling_level) or 1 / 0)
    for objective in ("grpo", "gspo"):
        run = Run(tmp_path / objective, recipe_with(objective=objective))
        with pytest.raises(ZeroDivisionError):
            train_rl(run.recipe, run)
    assert levels == ["token", "sequence"]


def test_a_resumed_run_equals_an_uninterrupted_one_audits_included(tmp_path):
    recipe = recipe_with(trl={"max_steps": 3, "save_strategy": "steps", "save_steps": 1})
    whole = Run(tmp_path / "whole", recipe)
    summary = train_rl(recipe, whole)
    assert "audit_images" in {path.name for path in whole.folder.iterdir()}
    assert left_after_overwriting(whole) == set()
    shutil.copytree(whole.folder, tmp_path / "cut")
    (tmp_path / "cut" / "summary.json").unlink()
    for step in (2, 3):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"checkpoint-{step}")
    cut = Run(tmp_path / "cut", recipe)
    again = train_rl(recipe, cut)
    a, b = (load_file(run.model_path / "model.safetensors") for run in (whole, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)
    audits, redone = (read_rows(run.folder / "audits.jsonl") for run in (whole, cut))
    assert audits == redone
    assert {row["step"] for row in audits} - {0}, "some were made after the step it was cut at"
    assert again["factors"] == summary["factors"]
    assert again["after"] | {"cpu_seconds": 0} == summary["after"] | {"cpu_seconds": 0}


def test_real_questions_from_a_file_train_without_the_embedded_truth(tmp_path, monkeypatch):
    """The embedded problems as a data set like any other: nothing but question, image and answer is known of them.

    The nano model says `answer 7`, where the rule wants a box or `answer: 7`, so its words are put that way.
    """

    def stated(text):
        return text.replace("answer", "answer :")

    def reward(prompts, completions, **columns):
        texts = [[{"role": "assistant", "content": stated(c[0]["content"])}] for c in completions]
        return final_answer_reward(prompts, texts, **columns)

    def is_right(question, response):
        return matches(stated(response), question.answer, question.options)

    monkeypatch.setattr(questions, "FINAL_ANSWER", questions.Rule("final-answer", is_right, reward))
    problems = world.sample_problems("rl", 60, 5, ["digits-sum", "count"])
    for number, problem in enumerate(problems):
        problem.images[0].save(tmp_path / f"{number}.png")
    rows = [{"question": p.question, "image": f"{i}.png", "answer": p.answer} for i, p in enumerate(problems)]
    for name, part in {"train": rows[:40], "test": rows[40:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data, test = ({"path": str(tmp_path / f"{name}.jsonl"), "instruction": ""} for name in ("train", "test"))
    recipe = recipe_with(data=data, test_data=test, audit={"enabled": False}, drafts=6)
    run = Run(tmp_path / "run", recipe)
    summary = train_rl(recipe, run)
    assert summary["updates"] == 1
    assert 0 < summary["drafts"] <= 6
    assert summary["before"]["drafts"] > 0
    assert summary["before"]["mask"] is None, "the error positions of real drafts are not known"
    assert summary["factors"]["visual_kept"] is not None
    assert summary["factors"]["audit_kept"] is None


def test_a_reward_of_one_s_own_grades_drafts_repairs_and_measurements(tmp_path):
    """The function says what the embedded checker says, from the row's own columns: the runs are then the same."""
    (tmp_path / "rewards.py").write_text(
        "def right(completions, answer, facts, task, **_):\n"
        "    texts = [c[-1]['content'].rpartition('answer') for c in completions]\n"
        "    return [float(bool(t[1]) and t[2].split() == a.split()) for t, a in zip(texts, answer)]\n"
    )
    plain, own = recipe_with(), recipe_with(reward=f"{tmp_path / 'rewards.py'}:right")
    runs = [Run(tmp_path / name, recipe) for name, recipe in (("plain", plain), ("own", own))]
    first, second = (train_rl(run.recipe, run) for run in runs)
    for summary in (first, second):
        for part in ("before", "after"):
            summary[part] |= {"cpu_seconds": 0}
        summary["cpu_seconds"] = 0
    assert first == second
    a, b = (load_file(run.model_path / "model.safetensors") for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_drafts_whose_repair_prompt_does_not_fit_are_left_out_and_counted():
    model, processor = load_base()
    supply = rl_drafts(model, processor, 8, questions=iter(world.sample_problems("rl", 400, 1)), progress=None)
    room = model.config.get_text_config().max_position_embeddings
    dataset = rl_dataset(supply.drafts, processor, NANO)
    lengths = []
    for row in dataset:
        text = processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=[row["images"]], add_special_tokens=False, return_tensors="pt")
        lengths.append(inputs["input_ids"].shape[1])
    limit = sorted(lengths)[3]
    kept = fitting_drafts(supply, processor, NANO, "nano", room - limit)
    assert kept.drafts == [draft for draft, n in zip(supply.drafts, lengths, strict=True) if n <= limit]
    assert kept.summary()["removed_too_long"] == len(supply.drafts) - len(kept.drafts) > 0


def test_an_unjudged_answer_is_no_draft(tmp_path):
    """A draft is an answer that the function found wrong, not one that it could not judge."""
    (tmp_path / "rewards.py").write_text(
        "def judge(completions, answer, **_):\n"
        "    texts = [c[-1]['content'] for c in completions]\n"
        "    right = [text.rpartition('answer')[2].split() == a.split() for text, a in zip(texts, answer)]\n"
        "    return [1.0 if hit else None if len(text) % 2 else 0.0 for hit, text in zip(right, texts)]\n"
    )
    recipe = recipe_with(reward=f"{tmp_path / 'rewards.py'}:judge")
    model, processor = load_base()
    sampling = {"questions": draft_questions(recipe), "grade": rule_grader_of(recipe), "progress": None}
    supply = rl_drafts(model, processor, 12, **sampling)
    assert len(supply.drafts) == 12
    assert {len(wrong.draft.text) % 2 for wrong in supply.drafts} == {0}
