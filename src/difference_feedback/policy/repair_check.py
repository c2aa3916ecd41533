"""Measure a repair model on a policy's wrong answers, round by round, for `repair check`.

A round is a few questions, or a few rows of a file. Its wrong answers are repaired, the repairs graded, and the right
ones audited. Then its rows are written to repairs.jsonl, and what it counted to metrics.jsonl. A run that was stopped
goes on with its next round, and ends as an uninterrupted one.

repairs.jsonl: one row a repair, or one for a wrong answer that got none:

    {"id", "draft_id", "question_id", "round", "question", "image", "answer", "draft", "reference", "repair",
     "right", "clean", "verdict", "reason", "audit", "edit_cost", "chosen", "refused", "copied", "right_without_image"}
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.progress import Progress

from difference_feedback.data.conversations import shown_marks
from difference_feedback.data.question import Question
from difference_feedback.data.saved_images import save_images
from difference_feedback.errors import DataError
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.judges.blank_image import stand_in
from difference_feedback.judges.endpoint_auditor import EndpointAuditor
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.method.cost import BILL
from difference_feedback.method.repairs import Limits, Repair, usable_repairs
from difference_feedback.method.selection import choose_repair
from difference_feedback.models.billing import bill_device, bill_servers
from difference_feedback.models.end_tokens import end_ids, number_of_tokens, written_end
from difference_feedback.models.outside_text import special_steering_tokens
from difference_feedback.models.ranks import ranks
from difference_feedback.models.scoring import answer_logps
from difference_feedback.models.vision_tokens import vision_token_ids
from difference_feedback.policy.draft_sources import Draft, DraftRound, draft_source
from difference_feedback.policy.repairer_source import RepairerSource
from difference_feedback.repair.audit_factor import AuditorDownError, is_audited
from difference_feedback.repair.endpoint import EndpointRepairer
from difference_feedback.runs.check_repair import check_repair_check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import JsonLines, iterate_rows, print_problems, write_jsonl
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.runs.serving import with_servers
from difference_feedback.runs.terminal import Terminal
from difference_feedback.world import Problem, error_spans

ROWS = "repairs.jsonl"
OUTAGE = 4
"""Failures in a row, in a round in which nothing succeeds, that are an outage even if others succeeded before."""


@with_servers
def measure_repairs(recipe: RepairCheckRecipe, run: Run) -> None:
    """Write the rows of all rounds, as many as give `recipe.drafts` wrong answers, to the run's folder.

    Raises `ConfigError` as `check_repair_check`, and `DataError` where there is no wrong answer to repair, or a server
    answers no request of a round.
    """
    check_repair_check(recipe)
    console = Terminal(stderr=True, emoji=False, soft_wrap=True, highlight=False)
    bill_device(ranks().device)
    bill_servers(endpoints_of(recipe).values())
    finished = [row["step"] for row in run.metrics() if row.get("kind") == "round"]
    done = max(finished, default=-1) + 1
    rows = [row for row in iterate_rows(run.folder / ROWS) if row["round"] < done]
    write_jsonl(run.folder / ROWS, rows)
    AuditLog(run.folder).rewind(done)
    known = len({row["draft_id"] for row in rows})
    if known >= recipe.drafts:
        return
    source = draft_source(recipe)
    if source.problems:
        console.print(f"{len(source.problems)} rows cannot be used:")
        print_problems(source.problems, console)
    if source.content:
        run.log_rows(source.name, source.content, left_out=[str(problem) for problem in source.problems])
    checker = _Checker(recipe, run, source.policy, source.processor, source.grader)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Repairing wrong answers", total=recipe.drafts, completed=known)
        for number, drafts in source.rounds(done, recipe.drafts - known):
            checker.measure(number, drafts)
            print_problems(drafts.left_out, console)
            known += len(drafts.drafts)
            progress.update(task, completed=known)
    if 0 < known < recipe.drafts and recipe.wrong_answers is None:  # a file has what it has
        console.print(f"Only {known} of {recipe.drafts} wrong answers were found. {source.remedy}")
    if not known:
        run.rewind_to(None)  # so that the same command reads the questions or the file again once they are corrected
        raise DataError(f"{source.name}: there is no wrong answer to repair. {source.remedy}")


@dataclass(frozen=True)
class _Graded:
    """A candidate repair, and what is known about it."""

    repair: Repair
    refused: str | None
    right: bool | None
    lowest_probability: float = 1.0


class _Checker:
    """Repairs, grades and audits the wrong answers of a round, and writes them."""

    def __init__(self, recipe: RepairCheckRecipe, run: Run, policy: Any, processor: Any, grader: Any) -> None:
        self.recipe, self.run, self.grader = recipe, run, grader
        self.policy, self.processor = policy, processor
        self.repairer = RepairerSource(recipe, policy, processor)
        self.limits = _limits(policy, processor, recipe.longest)
        audit = recipe.audit if recipe.audit and recipe.audit.enabled else None
        self.auditor = EndpointAuditor(audit.endpoint, audit.seconds) if audit and audit.endpoint else None
        self.log = AuditLog(run.folder)
        self.works: set[str] = set()
        """What has answered before: the server of repairs, the grader, the auditor."""

    def measure(self, number: int, of_round: DraftRound) -> None:
        """One round, whole: its rows, then the row of metrics.jsonl that closes it."""
        drafts = of_round.drafts
        self._stop_unjudged(of_round.unjudged, "wrong answers")
        before = BILL.now()
        candidates = self.repairer.repair(number, drafts, self.recipe.num_repairs)
        seconds = {clock: at - before[clock] for clock, at in BILL.now().items()}
        failed = [isinstance(self.repairer.repairer, EndpointRepairer) and not of for of in candidates]
        if self._is_outage("repairs", failed):
            endpoint, repairer = self.recipe.repairs.endpoint, self.repairer.repairer
            reason = repairer.client.usage.reason if isinstance(repairer, EndpointRepairer) else ""
            raise DataError(
                f"repairs.endpoint: {endpoint.url if endpoint else ''}: none of {len(drafts)} requests got an answer "
                f"({reason}): look at the server's log. The same command goes on from here."
            )
        graded = self._grade(drafts, candidates)
        unjudged = [each.right is None for of in graded for each in of if each.refused is None]
        self._stop_unjudged(unjudged, "repairs")
        audits = self._audit(number, drafts, graded)
        blank = self._without_image(number, drafts)
        images: dict[str, list[str]] = {}
        rows = []
        for i, draft in enumerate(drafts):
            if draft.question_id not in images:
                images[draft.question_id] = save_images(draft.question.images, self.run.folder, draft.question_id)
            shown = _shown(draft, number, images[draft.question_id])
            rows += self._rows(draft, shown, graded[i], audits, blank.get(i), failed[i])
        JsonLines(self.run.folder / ROWS).append(*rows)
        counts = {"repairs": sum(map(len, candidates)), "seconds": seconds, **of_round.counts}
        self.run.log(step=number, kind="round", drafts=len(drafts), left_out=of_round.left_out, **counts)

    def _stop_unjudged(self, unjudged: Sequence[bool], texts: str) -> None:
        if self._is_outage("reward", unjudged):
            raise DataError(
                f"reward: none of {len(unjudged)} {texts} was judged: look at the judge's server, or at the reward "
                "function, which returned None for each. The same command goes on from here."
            )

    def _is_outage(self, what: str, failures: Sequence[bool]) -> bool:
        """Whether nothing came back. A few may fail for reasons of their own, if others before them did not."""
        if not all(failures):
            self.works.add(what)
        return bool(failures) and all(failures) and (len(failures) >= OUTAGE or what not in self.works)

    def _grade(self, drafts: Sequence[Draft], candidates: Sequence[Sequence[Repair]]) -> list[list[_Graded]]:
        """Each candidate by the limits of training, by the grader, and if it matters by the policy's probabilities."""
        graded: list[list[_Graded]] = []
        for draft, repairs in zip(drafts, candidates, strict=True):
            of_draft = []
            for repair in repairs:
                usable, refused = usable_repairs([repair], 1, self.limits, draft.token_ids)
                reason = next((name for name, count in refused.items() if count), None)
                of_draft.append(_Graded(usable[0] if usable else repair, reason, None if usable else False))
            graded.append(of_draft)
        places = [(i, k) for i, of in enumerate(graded) for k, each in enumerate(of) if each.refused is None]
        texts = [graded[i][k].repair.text for i, k in places]
        verdicts = self.grader.grade([drafts[i].question for i, _ in places], texts) if places else []
        lowest = self._lowest(drafts, graded, places)
        for (i, k), verdict, least in zip(places, verdicts, lowest, strict=True):
            right = None if verdict is None else bool(verdict)
            graded[i][k] = replace(graded[i][k], right=right, lowest_probability=least)
        return graded

    def _lowest(
        self, drafts: Sequence[Draft], graded: Sequence[Sequence[_Graded]], places: Sequence[tuple[int, int]]
    ) -> list[float]:
        if not self.recipe.min_probability:
            return [1.0] * len(places)
        logps = answer_logps(
            self.policy,
            self.processor,
            [drafts[i].question.prompt for i, _ in places],
            [drafts[i].question.images for i, _ in places],
            [graded[i][k].repair.token_ids for i, k in places],
            temperature=self.recipe.sampling.temperature,
            batch_size=self.recipe.sampling.batch_size,
        )
        return [float(np.exp(of.min())) for of in logps]

    def _audit(
        self, number: int, drafts: Sequence[Draft], graded: Sequence[Sequence[_Graded]]
    ) -> dict[tuple[str, str], tuple[str, AuditResult]]:
        """`(draft, text) -> (id in audits.jsonl, result)` of the right repairs, where the truth is not known."""
        cases: dict[tuple[str, str], AuditCase] = {}
        for draft, of_draft in zip(drafts, graded, strict=True):
            for each in of_draft:
                key = draft.id, each.repair.text
                rate = self.recipe.audit.rate if self.recipe.audit else 1.0
                if each.right and not isinstance(draft.question, Problem) and is_audited(key, rate):
                    text, images = draft.question.question, tuple(draft.question.images)
                    cases[key] = AuditCase(text, images, draft.text, each.repair.text, draft.reference)
        if not cases:
            return {}
        if self.auditor is None:
            results = [AuditResult(None, "", "")] * len(cases)
        else:
            results = self.auditor.audit(list(cases.values()))
            audit = self.recipe.audit
            silent = [result.verdict is None for result in results]
            if audit and audit.when_down == "stop" and self._is_outage("audit", silent):
                raise AuditorDownError(
                    f"audit: the auditor {self.auditor.name} judged none of {len(cases)} repairs: {results[0].reason}. "
                    "Start it again and repeat the same command, or set audit.when_down=open to continue without it."
                )
        name = self.auditor.name if self.auditor else None
        ids = self.log.write(number, name, list(cases.values()), results)
        return dict(zip(cases, zip(ids, results, strict=True), strict=True))

    def _without_image(self, number: int, drafts: Sequence[Draft]) -> dict[int, bool | None]:
        """Whether one repair of each draft with images is right where a black image is shown in place of its own."""
        places = [i for i, draft in enumerate(drafts) if len(draft.question.images)]
        if not (places and self.recipe.blank_image and self.repairer.reads_images):
            return {}
        black = [[stand_in(image, "blank") for image in drafts[i].question.images] for i in places]
        requests = [replace(drafts[i].request, images=images) for i, images in zip(places, black, strict=True)]
        repaired = self.repairer.ask(2 * number + 1, requests, 1)
        asked = [
            (i, of[0].text)
            for i, of in zip(places, repaired, strict=True)
            if of and usable_repairs(of, 1, self.limits, drafts[i].token_ids)[0]
        ]
        verdicts = self.grader.grade([drafts[i].question for i, _ in asked], [text for _, text in asked])
        right: dict[int, bool | None] = {i: False for i, of in zip(places, repaired, strict=True) if of}
        return right | {i: verdict for (i, _), verdict in zip(asked, verdicts, strict=True)}

    def _rows(
        self,
        draft: Draft,
        shown: dict[str, Any],
        graded: Sequence[_Graded],
        audits: dict[tuple[str, str], tuple[str, AuditResult]],
        blank: bool | None,
        failed: bool,
    ) -> list[dict[str, Any]]:
        shown |= {"right_without_image": blank}
        if not graded:
            nothing = {"repair": None, "right": None if failed else False, "refused": "failed" if failed else "missing"}
            return [{"id": f"{draft.id}.0", **shown, **nothing, "chosen": False}]
        rewards = [None if of.refused or of.right is None else float(of.right) for of in graded]
        likely = [of.lowest_probability >= self.recipe.min_probability for of in graded]
        choice = choose_repair(draft.token_ids, [of.repair.token_ids for of in graded], rewards, usable=likely)
        chosen = choice.index if choice and choice.edit_cost <= self.recipe.max_edit_cost else None
        rows = []
        for k, of in enumerate(graded):
            text = of.repair.text
            row = {"id": f"{draft.id}.{k}", **shown, "repair": text, "right": of.right, "refused": of.refused}
            row |= {"chosen": k == chosen, "copied": text.split() == (draft.reference or "").split()}
            if of.refused is None:
                row["edit_cost"] = edit_cost(align(draft.token_ids, of.repair.token_ids))
            if of.right and isinstance(draft.question, Problem):
                row["clean"] = error_spans(draft.question, text) == []
            elif of.right and (draft.id, text) in audits:
                row["audit"], result = audits[draft.id, text]
                row |= {"verdict": result.verdict, "reason": result.reason}
            rows.append(row)
            shown = shown | {"right_without_image": None}  # it is said once
        return rows


def _shown(draft: Draft, number: int, images: list[str]) -> dict[str, Any]:
    question: Question = draft.question
    return {
        "draft_id": draft.id,
        "question_id": draft.question_id,
        "round": number,
        "task": question.task or None,
        "question": shown_marks(question.question),
        "image": images,
        "answer": question.answer,
        "draft": draft.text,
        "reference": draft.reference,
    }


def _limits(policy: Any, processor: Any, longest: int) -> Limits:
    """What a repair must keep to in training."""
    config = getattr(policy, "config", None)
    tokenizer = processor.tokenizer
    vocabulary = config.get_text_config().vocab_size if config is not None else number_of_tokens(tokenizer)
    ends = end_ids(tokenizer, getattr(policy, "generation_config", None)) | {written_end(processor)}
    steering = frozenset(special_steering_tokens(tokenizer).values())
    return Limits(vision_token_ids(config, tokenizer), vocabulary, longest, frozenset(ends), steering)
