"""What stage 2 is trained on: wrong answers of the policy to questions that it needs the image for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic

from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback import world
from difference_feedback.data.lazy_rows import lazy_rows
from difference_feedback.data.question import Question
from difference_feedback.errors import DataError
from difference_feedback.judges.blank_image import text_only_accuracy
from difference_feedback.judges.questions import Grade, Grader, columns_of
from difference_feedback.models.fitting import fitting, room_for_prompts
from difference_feedback.models.generate import Answerer
from difference_feedback.models.prompt_lengths import PromptLengths, sizes_of
from difference_feedback.repair.drafts import Q, WrongDraft, sample_groups, wrong_drafts
from difference_feedback.repair.prompts import RepairPrompt, RepairTemplate
from difference_feedback.runs.sections import TextOnly


@dataclass(frozen=True)
class DraftSupply(Generic[Q]):
    """The drafts, and how many questions were looked at for them."""

    drafts: list[WrongDraft[Q]]
    questions: int
    solved_from_text: int
    """Questions with wrong drafts that were removed, since the policy solves them without their image."""
    without_image: int = 0
    """Questions that were not asked, since the blank-image test needs an image."""
    too_long: int = 0
    """Drafts that were removed, since their repair prompts do not fit into the repair model's context."""

    def summary(self) -> dict[str, int]:
        """As plain values, for summary.json."""
        return {
            "drafts": len(self.drafts),
            "questions": self.questions,
            "removed_solved_from_text": self.solved_from_text,
            "removed_without_image": self.without_image,
            "removed_too_long": self.too_long,
        }


def rl_drafts(
    policy: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    n: int,
    *,
    questions: Iterator[Q],
    grade: Grade | Grader = world.is_correct,
    group_size: int = 4,
    text_only: TextOnly | None = None,
    needs_image: bool = False,
    max_new_tokens: int = 64,
    batch_size: int = 64,
    seed: int = 0,
    progress: str | None = "sampling drafts to train on",
    over_ranks: bool = False,
) -> DraftSupply[Q]:
    """At most `n` wrong answers of `policy`, each with a correct sibling for its reference.

    Questions are taken from `questions` until there are enough; fewer come back when it ends before that. Those that
    the policy solves from text alone are left out. [DF, Sec. 3] So are those without an image, where `needs_image`.

    Raises `DataError` when 20 `n` answers hold fewer than `n`, or all the questions not one.
    """
    drafts: list[WrongDraft[Q]] = []
    rollouts = questions_asked = removed = without_image = 0

    def with_image() -> Iterator[Q]:
        nonlocal without_image
        for question in questions:
            if needs_image and not len(question.images):
                without_image += 1
            else:
                yield question

    usable = with_image()
    while len(drafts) < n:
        batch = list(islice(usable, max(1, batch_size // group_size)))
        if not batch and drafts:
            break
        if not batch and not rollouts and without_image:
            raise DataError(
                f"none of {without_image} questions has an image, which the blank-image test needs: set "
                "visual_factor.enabled=false to train on questions without one"
            )
        if not batch or rollouts >= 20 * n:
            raise DataError(
                f"{rollouts} answers hold {len(drafts)} wrong ones with a correct sibling, {n} are needed: the "
                "policy is nearly always right, or nearly always wrong; ask for fewer drafts"
            )
        sampling: dict[str, Any] = {"grade": grade, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
        sampling["over_ranks"] = over_ranks
        groups = sample_groups(
            policy, processor, batch, group_size=group_size, seed=seed + rollouts, progress=progress, **sampling
        )
        questions_asked += len(batch)
        rollouts += sum(len(group.rollouts) for group in groups)
        mixed = [group for group in groups if group.correct and group.wrong]
        if text_only and text_only.samples and mixed:
            problems = [group.problem for group in mixed]
            shares = text_only_accuracy(
                policy, processor, problems, text_only.samples, seed=seed + rollouts, **sampling
            )
            needed = [group for group, share in zip(mixed, shares, strict=True) if share < text_only.threshold]
            removed += len(mixed) - len(needed)
            mixed = needed
        drafts += wrong_drafts(mixed, seed=seed + rollouts)
    return DraftSupply(drafts[:n], questions_asked, removed, without_image)


def fitting_drafts(
    supply: DraftSupply[Q], processor: ProcessorMixin, style: str | RepairTemplate, model: str, answer: int
) -> DraftSupply[Q]:
    """The drafts whose repair prompts leave room for a repair of `answer` tokens in the context of `model`.

    The others are listed. Raises `DataError` when no draft is left.
    """
    prompt = RepairPrompt(style, processor)
    drafts = supply.drafts
    prompts = [prompt(wrong.problem.prompt, wrong.draft.text, wrong.reference) for wrong in drafts]
    lengths = PromptLengths(processor, model).count(prompts, sizes_of(wrong.problem for wrong in drafts))
    places = [f"question {getattr(wrong.problem, 'id', wrong.problem.question)}" for wrong in drafts]
    kept = fitting("repair prompts", lengths, places, room_for_prompts(model, answer, None))
    return replace(supply, drafts=[drafts[i] for i in kept], too_long=len(drafts) - len(kept))


def rl_dataset(
    drafts: Sequence[WrongDraft[Question]], processor: ProcessorMixin, style: str | RepairTemplate
) -> Dataset:
    """Rows for TRL: the repair prompt, what the factors read, and the columns that the question's grader reads."""
    prompt = RepairPrompt(style, processor)
    rows, others = [], []
    for wrong in drafts:
        question, draft = wrong.problem, wrong.draft
        conversations = [prompt(question.prompt, draft.text, reference) for reference in (wrong.reference, None)]
        name = hashlib.sha1(f"{question.question}\0{draft.token_ids}\0{wrong.reference}".encode())
        for image in question.images:
            name.update(image.tobytes())
        row: dict[str, Any] = {"prompt": conversations[0], "blind_prompt": conversations[1]}
        row |= {"draft_id": name.hexdigest()[:12], "draft_ids": draft.token_ids, "draft": draft.text}
        row |= {"reference": wrong.reference, "question": question.question}
        rows.append(row)
        others.append({name: value for name, value in columns_of(question).items() if name not in (*row, "images")})
    return lazy_rows(rows, [wrong.problem.images for wrong in drafts], others)
