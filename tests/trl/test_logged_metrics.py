"""Real runs of every kind log what the registry of metrics describes, and it describes what they log."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trl_world
from datasets import Dataset
from test_draft_scores_in_trl import Known
from test_lean_update import PlainTrainer
from test_peers import ScriptedPRIME
from trl import SFTConfig
from trl.trainer import dpo_trainer, grpo_trainer, sft_trainer
from trl_world import FlipParity, ScriptedTrainer

import difference_feedback
from difference_feedback import world
from difference_feedback.bench.watch import CountWork, MeasureMasks
from difference_feedback.data.repair_set import RepairExample
from difference_feedback.judges.answers import Rollout
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.policy.evaluation import Evaluation, Prediction
from difference_feedback.repair.audit_factor import AuditFactor
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.quality import RepairQuality
from difference_feedback.repair.rl import fit_rl
from difference_feedback.repair.rl_data import rl_dataset
from difference_feedback.repair.sft import fit_sft, sft_dataset
from difference_feedback.report.metrics.metric import UNKNOWN, Kind, Metric
from difference_feedback.report.metrics.registry import TOPICS, metric_of, metrics_of
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.trl import DFDPOConfig, DFDPOTrainer, MetricsToJsonl, StopAtBudget
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.peers import PRIMEConfig

CPU = {"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
ONE_STEP = CPU | {"max_steps": 1, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-3}
Callbacks = list[Any]


class Speculating(FlipParity):
    """A repair model that counts its passes."""

    def __init__(self) -> None:
        self.tally = {"passes": 4, "tokens": 10}


def right(completions: list[Any], **_: Any) -> list[float]:
    return [1.0] * len(completions)


def pairs(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    watchers = [CountWork(), MeasureMasks(every=1)]
    args = trl_world.config(folder, max_steps=1, beta=0.1, min_probability=1e-9)
    trainer = ScriptedTrainer(
        model,
        trl_world.parity,
        args,
        train_dataset=questions,
        processing_class=processor,
        repairer=Speculating(),
        callbacks=[callbacks[0], *watchers, *callbacks[1:]],
    )
    for watcher in watchers:
        watcher.trainer, watcher.budget = trainer, callbacks[0]
    trainer.train()


def scores(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    args = trl_world.config(folder, max_steps=1, weights="log_ratio", num_repairs=2, regroup=False)
    scorer = Known()
    scorer.trainer = ScriptedTrainer(
        model,
        trl_world.parity,
        args,
        train_dataset=questions,
        processing_class=processor,
        repairer=scorer,
        callbacks=callbacks,
    )
    scorer.trainer.train()


def plain(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    args = trl_world.config(folder, LeanGRPOConfig, max_steps=1, loss_type="cispo", epsilon_high=5.0)
    PlainTrainer(
        model, trl_world.parity, args, train_dataset=questions, processing_class=processor, callbacks=callbacks
    ).train()


def prime(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    args = trl_world.config(folder, PRIMEConfig, max_steps=1, prompt_accuracy_low=0.0, prompt_accuracy_high=1.0)
    ScriptedPRIME(
        model, trl_world.parity, args, train_dataset=questions, processing_class=processor, callbacks=callbacks
    ).train()


def preferences(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    rows = [
        {"prompt": row["prompt"], "images": row["images"]}
        | {side: [{"role": "assistant", "content": text}] for side, text in (("chosen", "9 and 8"), ("rejected", "9"))}
        for row in questions.select(range(4))
    ]
    args = DFDPOConfig(output_dir=str(folder), per_device_train_batch_size=4, max_length=None, **ONE_STEP)
    data = Dataset.from_list(rows)
    DFDPOTrainer(model=model, args=args, train_dataset=data, processing_class=processor, callbacks=callbacks).train()


def stage_1(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    problems = world.sample_problems("warm", 4, 0)
    rows = [
        RepairExample(str(i), problem.question, problem.images, "9", "8", world.correct_answers(problem)[0])
        for i, problem in enumerate(problems)
    ]
    args = SFTConfig(output_dir=str(folder), per_device_train_batch_size=4, max_length=None, **ONE_STEP)
    fit_sft(model, processor, sft_dataset(rows, processor, "nano"), args, callbacks=callbacks)


def stage_2(base: Path, questions: Dataset, folder: Path, callbacks: Callbacks) -> None:
    model, processor = trl_world.load(base)
    drafts = []
    for problem in world.sample_problems("rl", 4, 0):
        answer = world.correct_answers(problem)[0]
        text = answer.rsplit(" ", 1)[0] + " x"
        drafts.append(WrongDraft(problem, Rollout([*processor.tokenizer.encode(text), 2], text, False), answer))
    args = LeanGRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=4,
        loss_type="grpo",
        beta=0.1,
        **ONE_STEP,
    )
    factors = {"visual": BlankImageFactor(right), "audit": AuditFactor(EmbeddedAuditor())}
    data = rl_dataset(drafts, processor, "nano")
    fit_rl(model, processor, data, args, grade=right, factors=factors, callbacks=callbacks)


RUNS = {"df-grpo": (pairs, scores), "grpo": (plain, prime), "dpo": (preferences,), "repair-sft": (stage_1,)}
RUNS |= {"repair-rl": (stage_2,)}


@pytest.fixture(scope="module")
def logged(base: Path, questions: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, set[str]]:
    """Kind of a run -> the names in its log."""
    names: defaultdict[Any, set[str]] = defaultdict(set)
    for kind, runs in RUNS.items():
        for run in runs:
            folder = tmp_path_factory.mktemp(run.__name__)
            run(base, questions, folder, [StopAtBudget(), MetricsToJsonl(folder / "metrics.jsonl")])
            names[kind] |= {name for row in read_rows(folder / "metrics.jsonl") for name in row}
    names["bench"] = {name for name in names["df-grpo"] if name.startswith(("flops/", "mask/"))}
    names["df-grpo"] -= names["bench"]
    summary = Evaluation([Prediction("count", "?", "1", "1", True)], 1.0).summary()
    names["evaluate"] = set(summary)
    names["repair-rl"] |= {f"repair_quality/{field.name}" for field in fields(RepairQuality)}
    return dict(names)


@pytest.fixture(scope="module")
def code() -> str:
    """What may put a name together: this package, and TRL's trainers. Not the registry itself."""
    own = Path(difference_feedback.__file__).parent
    files = [path for path in own.rglob("*.py") if path.parent.name != "metrics"]
    files += [Path(str(module.__file__)) for module in (grpo_trainer, dpo_trainer, sft_trainer)]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def names_of(metric: Metric) -> Iterator[str]:
    """The names of a family, but for the parts that may be any text."""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{.*?\})", metric.name)]
    return ("".join(chosen) for chosen in product(*parts))


def test_what_runs_log_is_described(logged: dict[Kind, set[str]]) -> None:
    undescribed = {(kind, name) for kind, names in logged.items() for name in names if metric_of(name, kind) is None}
    assert not undescribed


@pytest.mark.parametrize("kind", ["df-grpo", "grpo", "dpo", "repair-sft", "repair-rl", "bench", "evaluate"])
def test_what_is_described_is_logged_or_made_in_code(kind: Kind, logged: dict[Kind, set[str]], code: str) -> None:
    """What is logged under a condition may be in the code alone, by the last part of its name."""
    for metric in metrics_of(kind):
        seen = [name for name in logged[kind] if metric.pattern.fullmatch(name)]
        if not metric.when and len(metric.kinds) == 1 and kind not in ("evaluate", "bench"):
            assert seen, metric.name
        for name in names_of(metric):
            last = re.sub(r"<.*?>", "", name).rsplit("/", 1)[-1]
            assert name in seen or "<" in name or re.search(rf"\b{re.escape(last)}\b", code), (kind, name)


def test_a_name_has_one_description() -> None:
    for kind in {kind for topic in TOPICS for metric in topic.metrics for kind in metric.kinds}:
        names = [(metric, name) for metric in metrics_of(kind) for name in names_of(metric) if "<" not in name]
        for metric, name in names:
            assert [other for other in metrics_of(kind) if other.pattern.fullmatch(name)] == [metric], (kind, name)


def test_limits_have_their_reason_in_words() -> None:
    for topic in TOPICS:
        for metric in topic.metrics:
            if metric.low is not None or metric.high is not None:
                assert metric.healthy != UNKNOWN, metric.name
                assert metric.remedy, metric.name
                assert metric.problem(metric.low if metric.low is not None else metric.high or 0.0) is None
