"""Run a `train` recipe on verl: write its data as parquet, translate its keys, collect its metrics in the folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.questions import grader_of, held_out, training_questions
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.model_folder import whole_place
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.safe_path import use_safe_path
from difference_feedback.runs.serving import with_servers
from difference_feedback.verl.problems import source_of, write_questions
from difference_feedback.verl.results import collect, is_evaluated, keep_metrics, validation_folder
from difference_feedback.verl.translate import ROLLOUT, check_first_batch, gpus_here, overrides
from difference_feedback.world.nano import SHIPPED


@with_servers
def launch(recipe: TrainRecipe, run: Run) -> dict[str, Any]:
    """Train by `python -P -m difference_feedback.verl.main_df` in this environment; returns what summary.json holds.

    An interrupted run continues from verl's last checkpoint in the folder.

    Raises:
        ConfigError: verl is not installed here, or the recipe has a setting without a counterpart on verl.
        DifferenceFeedbackError: the run failed; its log is in the folder.
    """
    check(recipe)
    command = [sys.executable, "-P", "-m", "difference_feedback.verl.main_df", *arguments(recipe, run)]
    metrics = run.folder / "verl_metrics.jsonl"
    keep_metrics(recipe, run, metrics, {})
    log = run.folder / "verl.log"
    print(f"verl's log: {log}", flush=True)
    use_safe_path()  # for Ray's processes
    environment = os.environ | {"VERL_FILE_LOGGER_PATH": str(metrics)}
    with log.open("a") as output:
        code = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise DifferenceFeedbackError(f"verl ended with exit code {code}. The end of {log}:\n{tail}")
    return collect(recipe, run, metrics)


def arguments(recipe: TrainRecipe, run: Run) -> list[str]:
    """The command line; writes the data files that it names."""
    translated = overrides(recipe, gpus_here())
    folder = run.folder.absolute()  # verl's workers have another current folder
    train, test = folder / "train.parquet", folder / "test.parquet"
    questions, grader = held_out(recipe)
    assert not isinstance(grader, LLMJudge)  # `check` rejects a judge
    to_train = training_questions(recipe)
    check_first_batch(translated, len(to_train), "data")
    write_questions(train, to_train, source_of(grader_of(recipe)))
    write_questions(test, questions or to_train, source_of(grader))
    fixed: dict[str, Any] = {
        "data.train_files": train,
        "data.val_files": test,
        "data.custom_cls.path": "pkg://difference_feedback.verl.question_dataset",
        "data.custom_cls.name": "QuestionDataset",
        "data.seed": recipe.seed,
        "actor_rollout_ref.model.path": SHIPPED if recipe.model == "nano" else whole_place(recipe.model),
        "reward.custom_reward_function.path": Path(__file__).with_name("reward.py"),
        "trainer.default_local_dir": run.checkpoints.absolute(),
        "trainer.resume_mode": "auto",
        "trainer.logger": ["console", "file"],
        "trainer.project_name": "difference-feedback",
        "trainer.experiment_name": run.folder.resolve().name,
        "trainer.val_before_train": is_evaluated(recipe),
        "trainer.test_freq": -1,
    }
    if is_evaluated(recipe):
        fixed |= {
            "trainer.validation_data_dir": validation_folder(run).absolute(),
            "trainer.test_freq": recipe.evaluation.every or 2**31 - 1,  # 0: only after the last step
            f"{ROLLOUT}.val_kwargs.temperature": recipe.evaluation.temperature,
            f"{ROLLOUT}.val_kwargs.do_sample": recipe.evaluation.temperature > 0,
        }
    return as_words(fixed | translated)


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as Hydra's command line."""
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    """A value as Hydra's command line reads it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_word, value)) + "]"
    if isinstance(value, str | Path):
        escaped = re.sub(r"(\\+)(?='|$)", r"\1\1", str(value)).replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)
