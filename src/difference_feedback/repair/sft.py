"""Repair model, stage 1: supervised training on hand-repaired answers, with TRL's `SFTTrainer`. [DF, Eq. 1]"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin, TrainerCallback
from trl import SFTConfig, SFTTrainer

from difference_feedback.data.conversations import fill_images, system_of
from difference_feedback.data.lazy_rows import lazy_rows
from difference_feedback.data.repair_set import RepairExample, RepairSet, load_repair_set, save_repair_set
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.judges.questions import labelled_problems
from difference_feedback.models.end_tokens import end_ids, written_end
from difference_feedback.models.fitting import fitting, room_for_prompts
from difference_feedback.models.generate import prompt_inputs, with_answers
from difference_feedback.models.images_once import images_once
from difference_feedback.models.processor import load_processor
from difference_feedback.models.prompt_lengths import PromptLengths, sizes_of
from difference_feedback.models.ranks import ranks
from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate, template_for
from difference_feedback.repair.stage import Stage, stage_config
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import print_problems
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import RepairSFTRecipe
from difference_feedback.runs.serving import with_servers
from difference_feedback.runs.terminal import Terminal
from difference_feedback.trl.blank_row import SIDE as BLANK_SIDE
from difference_feedback.trl.resume import WholeCheckpoints
from difference_feedback.trl.trainer_config import refused_settings


class RepairCollator:
    """Prompt-completion rows with images -> model inputs, labels on the completion and its end alone.

    TRL's own collator would also train on what the chat template writes after the end of the answer, which is never
    generated, and runs the processor twice. Prompts are padded on the left and completions on the right: the two meet.
    """

    def __init__(self, processor: ProcessorMixin, generation_config: Any = None, lends_image: bool = False) -> None:
        """`generation_config` is the model's: it names the tokens that end an answer.

        With `lends_image`, a batch without an image gets a row with a blank one and without labels. Ranks that train
        together must all run the vision tower, or those that do would wait for ever.
        """
        self.lends_image = lends_image
        self.processor: Any = processor
        self.tokenizer: Any = processor.tokenizer
        self.ends = end_ids(self.tokenizer, generation_config)
        self.written_end = written_end(processor, self.ends)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors `(B, P + T)`: `P` the longest prompt, `T` the longest completion; labels are -100 elsewhere."""
        images = [list(row["images"]) for row in rows]
        lent = self.lends_image and not any(images)
        if lent:
            turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
            rows = [*rows, {"prompt": turns, "completion": [{"role": "assistant", "content": "x"}]}]
            images.append([Image.new("RGB", (BLANK_SIDE, BLANK_SIDE))])
        messages = [
            fill_images([*row["prompt"], *row["completion"]], of_row) for row, of_row in zip(rows, images, strict=True)
        ]
        prompts = self.processor.apply_chat_template(
            [row[:-1] for row in messages], add_generation_prompt=True, tokenize=False
        )
        with images_once():  # several drafts of a question may be in a batch
            inputs = prompt_inputs(self.processor, prompts, images)
        whole = self.processor.apply_chat_template(messages, tokenize=False)
        completions = [self._ids(*texts) for texts in zip(prompts, whole, messages, strict=True)]
        batch = with_answers(inputs, completions, self.tokenizer.pad_token_id)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        batch["labels"][:, : inputs["input_ids"].shape[1]] = -100
        if lent:
            batch["labels"][-1] = -100
        return batch

    def _ids(self, prompt: str, whole: str, messages: list[dict[str, Any]]) -> list[int]:
        """The answer as the template writes it after the generation prompt, with the blank before it if it puts one."""
        text = messages[-1]["content"][0]["text"]
        written = whole[len(prompt) :] if whole.startswith(prompt) else text
        ids = self.tokenizer.encode(written if text in written else text, add_special_tokens=False)
        end = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
        return [*ids[:end], self.written_end]


def sft_dataset(
    rows: Sequence[RepairExample], processor: ProcessorMixin, style: str | RepairTemplate, system: str | None = None
) -> Dataset:
    """TRL's prompt-completion format: the repair prompt, and the repaired answer.

    `system` is the policy's system message, for rows that do not hold the conversation in which the draft was given.
    """
    prompt = RepairPrompt(style, processor)
    return lazy_rows(
        [
            {
                "prompt": prompt(row.prompt_with(system), row.draft, row.reference),
                "completion": prompt.answer(row.repaired),
            }
            for row in rows
        ],
        [row.images for row in rows],
    )


class RepairSFTTrainer(WholeCheckpoints, SFTTrainer):
    """`SFTTrainer` that resumes with the checkpoint's weights; see `trl.resume`.

    The loss is the mean over the tokens of an update, however they are spread over ranks and micro-batches. TRL takes
    it within each micro-batch for models such as Qwen2.5-VL, whose own loss, which TRL does not call, wants no count.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True


def fit_sft(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    args: SFTConfig,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: str | None = None,
) -> SFTTrainer:
    """Train `model` in place and return the trainer. The rows have `prompt`, `completion` and `images`.

    `args` has `max_length=None`: a cut prompt loses image tokens. Raises `DataError` when there are no rows.
    """
    if not len(dataset):
        raise DataError("there are no repaired answers to train on")
    args.remove_unused_columns = False
    batch = args.per_device_train_batch_size * ranks().num_processes
    if args.dataloader_drop_last and len(dataset) < batch:
        raise DataError(
            f"{len(dataset)} repaired answers to train on; trl.dataloader_drop_last drops a batch of fewer than "
            f"{batch}, so nothing would be trained: leave it out, or set a smaller trl.per_device_train_batch_size."
        )
    with refused_settings():
        trainer = RepairSFTTrainer(
            model,
            args,
            data_collator=RepairCollator(processor, model.generation_config, ranks().num_processes > 1),
            train_dataset=dataset,
            processing_class=processor,
            callbacks=list(callbacks),
        )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def sft_config(recipe: RepairSFTRecipe, output_dir: Path = Path("checkpoints")) -> SFTConfig:
    """The trainer's configuration for a recipe. Raises `ConfigError` for a key or a value that it does not accept."""
    return stage_config(SFTConfig, recipe, recipe.trl, output_dir=str(output_dir), max_length=None)


def fitting_repairs(recipe: RepairSFTRecipe, repair_set: RepairSet, system: str | None) -> RepairSet:
    """The rows whose prompt and repair fit into `max_length`, or else into the model's context. Others are listed.

    Only the processor is loaded. Raises `DataError` when no row fits.
    """
    processor = load_processor(recipe.model)
    prompt = RepairPrompt(template_for(recipe.model), processor)
    rows = repair_set.rows
    prompts = [prompt(row.prompt_with(system), row.draft, row.reference) for row in rows]
    lengths = PromptLengths(processor, recipe.model).count(prompts, sizes_of(rows))
    repairs = processor.tokenizer([row.repaired for row in rows], add_special_tokens=False)["input_ids"]
    whole = [length + len(ids) + 1 for length, ids in zip(lengths, repairs, strict=True)]
    room = room_for_prompts(recipe.model, 0, recipe.max_length, "max_length")
    kept = fitting(str(recipe.data), whole, [f"row {row.id}" for row in rows], room)
    return replace(repair_set, rows=[rows[i] for i in kept])


def usable_repairs(path: str, system: str | None) -> RepairSet:
    """The rows of a file that can be used; the first rank prints the others.

    Raises `ConfigError` where rows hold the policy's conversation, and it has another system message than `system`.
    """
    repair_set = load_repair_set(path)
    if repair_set.errors and ranks().is_main_process:
        console = Terminal(stderr=True, emoji=False, soft_wrap=True, highlight=False)
        count = len(repair_set.rows) + repair_set.replaced + len(repair_set.errors)
        console.print(f"{path}: {len(repair_set.errors)} of {count} rows are left out:", markup=False)
        print_problems(repair_set.errors, console)
    others = [row for row in repair_set.rows if system is not None and system_of(row.prompt_with(system)) != system]
    if others:
        raise ConfigError(
            f"system_prompt: row {others[0].id} of {path} holds the policy's own prompt, whose system message is "
            f"{system_of(others[0].prompt)!r}: leave system_prompt out. It is for rows without a prompt."
        )
    return repair_set


@with_servers
def train_sft(recipe: RepairSFTRecipe, run: Run) -> dict[str, Any]:
    """Run stage 1 of a recipe: the trained model in the run's folder, and its summary.

    Embedded: `recipe.drafts` answers of the model itself are repaired by the oracle, written to the run's folder,
    and repair quality is measured before and after. Drafts, repairs and training count; the measuring does not.
    """
    check(recipe)
    config = sft_config(recipe, run.checkpoints)
    system = prompt_form(recipe.system_prompt).system
    repair_set = fitting_repairs(recipe, usable_repairs(recipe.data, system), system) if recipe.data else None
    stage = Stage(recipe, run, policy=recipe.model)
    auditor = EmbeddedAuditor()  # it costs nothing
    before = None if recipe.data else stage.quality(auditor=auditor)
    if repair_set is None:
        with stage.billed():
            sampling = {"problems": labelled_problems(recipe), "seed": recipe.seed, **stage.limits}
            repair_set = RepairSet(oracle_repairs(stage.policy, stage.processor, recipe.drafts, **sampling))
        if ranks().is_main_process:
            save_repair_set(repair_set.rows, run.folder / "oracle_repairs.jsonl")
    else:
        rows = [[row.id, row.prompt_with(system), row.draft, row.reference, row.repaired] for row in repair_set.rows]
        run.log_rows(str(recipe.data), rows)
    trainer = fit_sft(
        stage.model,
        stage.processor,
        sft_dataset(repair_set.rows, stage.processor, stage.template, system),
        config,
        callbacks=stage.callbacks(),
        resume_from=stage.last_checkpoint,
    )
    after = None if recipe.data else stage.quality(auditor=auditor)
    summary = {
        "examples": len(repair_set.rows),
        "unusable_rows": repair_set.errors,
        "replaced_rows": repair_set.replaced,
        "updates": trainer.state.global_step,
        **stage.seconds,
        "before": before and asdict(before),
        "after": after and asdict(after),
    }
    stage.save(trainer)
    return stage.finish(summary)
