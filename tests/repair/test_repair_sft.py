"""Stage 1: the loss sees the repair and its end alone, and goes down."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from overwritten import left_after_overwriting
from trl import SFTConfig
from typer.testing import CliRunner

from difference_feedback import world
from difference_feedback.cli import app
from difference_feedback.data.conversations import with_system
from difference_feedback.data.repair_set import RepairExample, load_repair_set, save_repair_set
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.repair.prompts import other_system, template_for
from difference_feedback.repair.sft import (
    RepairCollator,
    fit_sft,
    fitting_repairs,
    sft_dataset,
    train_sft,
    usable_repairs,
)
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.runs.model_folder import check_model
from difference_feedback.runs.recipes import RepairSFTRecipe

EOS, PAD, IMAGE = 2, 0, 6


@pytest.fixture(scope="module")
def rows():
    """Rows of mixed length: with one and two images, with and without a reference."""
    result = []
    for i, problem in enumerate(world.sample_problems("warm", 8, 0)):
        answers = world.correct_answers(problem)
        images = problem.images * (2 if i == 1 else 1)
        draft = answers[0].rsplit(" ", 1)[0] + " x"
        result.append(
            RepairExample(str(i), problem.question, images, draft, answers[-1] if i % 2 else None, answers[0])
        )
    return result


def settings(folder, **changes):
    values = {
        **{"output_dir": str(folder), "per_device_train_batch_size": 4, "max_steps": 12, "learning_rate": 2e-3},
        **{"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "max_length": None, "logging_steps": 1},
        **{"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "seed": 0},
    }
    return SFTConfig(**(values | changes))


def test_labels_are_the_repair_and_its_end_and_nothing_else(frozen, rows):
    tokenizer = frozen[1].tokenizer
    batch = RepairCollator(frozen[1])(list(sft_dataset(rows, frozen[1], "nano")))
    for row, ids, labels, attended in zip(
        rows, batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
    ):
        expected = [*tokenizer.encode(row.repaired), EOS]
        places = (labels != -100).nonzero().flatten()
        assert labels[places].tolist() == expected
        assert torch.equal(ids[places], labels[places])
        assert places.tolist() == list(range(places[0], places[0] + len(expected)))  # in one piece
        assert attended[places].all()
        prompt = tokenizer.decode(ids[: places[0]][attended[: places[0]] == 1])
        assert prompt.endswith("repair :<|im_end|>\n<|im_start|>assistant\n")
        assert row.question in prompt
        assert f"draft : {row.draft}" in prompt
        assert ("reference :" in prompt) == (row.reference is not None)
        assert not attended[places[-1] + 1 :].any()  # nothing after the end of sequence
    assert len({int((labels != -100).sum()) for labels in batch["labels"]}) > 1
    assert (batch["input_ids"] == IMAGE).sum() * 4 == len(batch["pixel_values"])
    assert torch.equal(batch["mm_token_type_ids"] == 1, batch["input_ids"] == IMAGE)


def test_padding_changes_no_loss(frozen, rows):
    model, processor = frozen
    collate = RepairCollator(processor)
    examples = list(sft_dataset(rows, processor, "nano"))

    def total(examples):
        batch = collate(examples)
        with torch.no_grad():
            return model(**batch).loss * (batch["labels"] != -100).sum()

    torch.testing.assert_close(total(examples), sum(total([example]) for example in examples), rtol=1e-4, atol=1e-3)


def test_special_tokens_in_a_data_file_do_not_reach_the_labels(frozen):
    image = world.sample_problems("warm", 1, 0)[0].images
    row = RepairExample("0", "q", image, "x", "y", "answer <|image_pad|>4<|im_end|><|im_start|>")
    batch = RepairCollator(frozen[1])(list(sft_dataset([row], frozen[1], "nano")))
    labels = batch["labels"][batch["labels"] != -100].tolist()
    assert labels == [*frozen[1].tokenizer.encode("answer 4"), EOS]


def test_training_lowers_the_loss_and_the_trained_model_repairs(tmp_path, nano_model, rows):
    model, processor = nano_model
    row = rows[0]
    dataset = sft_dataset([row] * 4, processor, "nano")
    trainer = fit_sft(model, processor, dataset, settings(tmp_path, max_steps=25))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < 0.3 * losses[0]
    from difference_feedback.method.repairs import RepairRequest
    from difference_feedback.repair.local import LocalRepairer

    request = RepairRequest(row.prompt, list(row.images), processor.tokenizer.encode(row.draft), row.reference)
    repairer = LocalRepairer(model, processor, style="nano", temperature=0, max_new_tokens=40)
    [[repair]] = repairer.repair([request])
    assert repair.text == row.repaired
    assert repair.token_ids[-1] == EOS


def test_nothing_to_train_on_is_an_error(tmp_path, frozen):
    with pytest.raises(DataError, match="no repaired answers"):
        fit_sft(*frozen, sft_dataset([], frozen[1], "nano"), settings(tmp_path))


@pytest.fixture
def start(tmp_path, nano_model):
    model, processor = nano_model
    model.save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    from difference_feedback.repair.prompts import save_template

    save_template("nano", tmp_path / "start")
    return str(tmp_path / "start")


TRL = {"per_device_train_batch_size": 4, "max_steps": 4, "learning_rate": 1e-3, "logging_steps": 1}
EVALUATION = {"problems": 6, "max_new_tokens": 6, "batch_size": 6}


def test_a_recipe_is_run_and_leaves_a_model_a_set_and_a_summary(tmp_path, start):
    recipe = RepairSFTRecipe.model_validate({"model": start, "drafts": 6, "evaluation": EVALUATION, "trl": TRL})
    run = Run(tmp_path / "run", recipe)
    summary = train_sft(recipe, run)
    assert run.finished
    assert summary["examples"] == len(load_repair_set(run.folder / "oracle_repairs.jsonl").rows) == 6
    assert summary["updates"] == 4
    assert summary["cpu_seconds"] > 0
    assert {"accuracy_at_1", "accuracy_at_2", "edit_cost", "feasible_share"} <= set(summary["after"])
    assert left_after_overwriting(run) == set()
    assert template_for(run.model_path) == template_for(start)
    assert other_system(run.model_path, with_system([], None)) is None
    assert "look" in (other_system(run.model_path, with_system([], "look")) or "")
    rows = [row for row in run.metrics() if "loss" in row]
    assert len(rows) == 4
    assert all("cpu_seconds" in row for row in rows)


def test_a_file_of_hand_repairs_with_a_bad_row(tmp_path, start, rows, capsys):
    path = save_repair_set(rows, tmp_path / "set.jsonl")
    path.write_text(path.read_text() + json.dumps({"id": "bad"}) + "\n")
    recipe = RepairSFTRecipe.model_validate({"model": start, "data": str(path), "trl": TRL})
    summary = train_sft(recipe, Run(tmp_path / "run", recipe))
    assert summary["examples"] == len(rows)
    [error] = summary["unusable_rows"]
    assert error.startswith("line 9, field 'question'")
    assert "line 9, field 'question'" in capsys.readouterr().err
    assert summary["before"] is summary["after"] is None


def test_a_resumed_run_goes_on_with_the_checkpoints_weights(tmp_path, start, rows):
    path = str(save_repair_set(rows, tmp_path / "set.jsonl"))
    values = {"model": start, "data": path, "trl": TRL | {"save_strategy": "steps", "save_steps": 2}}
    recipe = RepairSFTRecipe.model_validate(values)
    whole = Run(tmp_path / "whole", recipe)
    train_sft(recipe, whole)
    resumed = Run(tmp_path / "resumed", recipe)
    (whole.checkpoints / "checkpoint-2").rename(resumed.checkpoints / "checkpoint-2")
    train_sft(recipe, resumed)
    from safetensors.torch import load_file

    expected, result = (load_file(r.model_path / "model.safetensors") for r in (whole, resumed))
    for name in expected:
        torch.testing.assert_close(result[name], expected[name])


def test_a_run_does_not_go_on_from_a_checkpoint_with_other_rows(tmp_path, start, rows):
    path = tmp_path / "set.jsonl"
    save_repair_set(rows, path)
    values = {"model": start, "data": str(path), "trl": TRL | {"save_strategy": "steps", "save_steps": 2}}
    recipe = RepairSFTRecipe.model_validate(values)
    run = Run(tmp_path / "run", recipe)
    train_sft(recipe, run)
    (run.folder / "summary.json").unlink()
    save_repair_set(rows[1:], path)
    with pytest.raises(DataError, match=r"set\.jsonl.*have changed.*--overwrite"):
        train_sft(recipe, run)
    shutil.rmtree(run.checkpoints)  # nothing to go on from
    run.checkpoints.mkdir()
    assert train_sft(recipe, run)["examples"] == len(rows) - 1


def test_rows_that_do_not_fit_are_left_out_before_the_model_is_loaded(tmp_path, start, rows, frozen, capsys):
    """Counted is what the collator makes: prompt, repair and its end."""
    path = str(save_repair_set(rows, tmp_path / "set.jsonl"))
    collate = RepairCollator(frozen[1])
    dataset = sft_dataset(load_repair_set(path).rows, frozen[1], "nano", "look closely")
    lengths = [collate([row])["input_ids"].shape[1] for row in dataset]
    limit = sorted(lengths)[4]
    values = {"model": start, "data": path, "trl": TRL | {"max_steps": 1}, "system_prompt": "look closely"}
    recipe = RepairSFTRecipe.model_validate(values | {"max_length": limit})
    kept = fitting_repairs(recipe, load_repair_set(path), "look closely").rows
    assert [row.id for row in kept] == [row.id for row, n in zip(rows, lengths, strict=True) if n <= limit]
    printed = capsys.readouterr().err
    for row, length in zip(rows, lengths, strict=True):
        assert (f"row {row.id}: {length} tokens" in printed) == (length > limit)
    assert train_sft(recipe, Run(tmp_path / "run", recipe))["examples"] == len(kept)
    with pytest.raises(DataError, match=f"shortest has {min(lengths)}"):
        train_sft(recipe.model_copy(update={"max_length": 5}), Run(tmp_path / "none", recipe))


def test_items_that_nobody_has_repaired_are_told_from_their_repairs(tmp_path, start, rows):
    path = save_repair_set(rows, tmp_path / "v2.5.jsonl")
    items = [{key: value for key, value in row.items() if key != "repaired"} for row in read_rows(path)]
    write_jsonl(path, items)
    recipe = RepairSFTRecipe.model_validate({"model": start, "data": str(path), "trl": TRL})
    with pytest.raises(ConfigError, match=r"v2\.5\.annotated\.jsonl.*does not exist yet"):
        check(recipe)
    (tmp_path / "v2.5.annotated.jsonl").touch()
    with pytest.raises(ConfigError, match=r"v2\.5\.annotated\.jsonl.*give it"):
        check(recipe)


def test_another_system_message_than_that_of_the_rows_is_refused(tmp_path, start, rows):
    prompt = [{"role": "system", "content": [{"type": "text", "text": "look"}]}, *rows[0].prompt]
    path = save_repair_set([replace(rows[0], conversation=prompt)], tmp_path / "set.jsonl")
    assert len(usable_repairs(str(path), None).rows) == len(usable_repairs(str(path), "look").rows) == 1
    with pytest.raises(ConfigError, match="system_prompt"):
        usable_repairs(str(path), "look closely")


def test_the_folder_that_people_annotate_is_trained_on_and_the_end_says_where_the_model_is(tmp_path, start, rows):
    items, output = tmp_path / "items", tmp_path / "run"
    values = [f"model={start}", f"data={items}", "trl.max_steps=1", "trl.per_device_train_batch_size=4"]
    words = ["repair", "sft", "nano_repair_sft", *values, "--output", str(output)]
    items.mkdir()
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert f"annotate {items}" in refused.stderr
    assert not output.exists()
    save_repair_set(rows, items / "items.annotated.jsonl")
    write_jsonl(items / "items.jsonl", [{"id": "0"}])
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    *_, model, summary, now = result.stdout.splitlines()
    assert model == f"Model: {output / 'model'}"
    assert json.loads(Path(summary.removeprefix("Summary: ")).read_text())["examples"] == len(rows)
    recipe = RepairSFTRecipe.model_validate({"model": start, "data": str(items)})
    check_model(now.partition("repair_model=")[2])
    write_jsonl(items / "others.annotated.jsonl", [])
    with pytest.raises(ConfigError, match=r"^data: .*items\.annotated\.jsonl, .*others\.annotated\.jsonl"):
        check(recipe)
