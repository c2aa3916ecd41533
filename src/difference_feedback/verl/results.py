"""What a run on verl leaves in the run's folder: metrics.jsonl, predictions.jsonl and summary.json, as on TRL.

Its work is done by Ray's processes, on one node or on many, whose processor seconds the trainer cannot read:
`cpu_seconds` is null, and `wall_seconds` stands for it. GPU seconds are the wall's times the GPUs that the run holds.
"""

from pathlib import Path
from typing import Any

from datasets import Dataset

from difference_feedback.errors import ConfigError
from difference_feedback.method.cost import Counts, Spent, ledger
from difference_feedback.method.groups import least_right
from difference_feedback.models.billing import gpus_of_servers, visible_gpus
from difference_feedback.policy.evaluation import Evaluation, Prediction
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.rewards import threshold_of
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.verl.settings import VerlSettings
from difference_feedback.verl.translate import gpus_here, overrides

UPDATE = ("old_log_prob", "ref", "values", "update_critic", "update_actor", "update_weights")
"""verl's timers of what `method.cost` calls update."""
HELD_OUT = ("accuracy", "interval", "problems", "tasks")
"""What a row of metrics.jsonl has of an evaluation."""


def validation_folder(run: Run) -> Path:
    """Where verl writes the answers of each validation, as `<step>.jsonl`."""
    return run.folder / "validation"


def collect(recipe: TrainRecipe, run: Run, metrics: Path) -> dict[str, Any]:
    """Write the run's metrics.jsonl, predictions.jsonl and summary.json, and return the summary.

    Raises `ConfigError` when verl logged nothing to the file `metrics`.
    """
    measured = evaluations(recipe, run)
    keep_metrics(recipe, run, metrics, measured)
    rows = run.metrics()
    if not rows:
        raise ConfigError(f"{metrics}: verl logged nothing there: keep `file` in verl.trainer.logger.")
    last = rows[-1]
    summary: dict[str, Any] = {
        "method": recipe.method,
        "host": "verl",
        "objective": recipe.objective,
        "steps": last["step"],
        "cpu_seconds": None,
        "setup_cpu_seconds": 0.0,
        "wall_seconds": last["wall_seconds"],
    }
    if "gpu_seconds" in last:
        summary["gpu_seconds"] = last["gpu_seconds"]
    if last["step"] in measured:
        summary |= measured[last["step"]].summary()
        summary["base_accuracy"] = measured[0].accuracy if 0 in measured else None
        measured[last["step"]].write_predictions(run.folder / "predictions.jsonl")
    cost = ledger(rows).terms(_num_repairs(recipe))
    summary |= {"cost": {clock: terms.to_dict() for clock, terms in cost.items()}} if cost else {}
    run.finish(summary)
    return summary


def keep_metrics(recipe: TrainRecipe, run: Run, metrics: Path, measured: dict[int, Evaluation]) -> None:
    """Put verl's metrics into metrics.jsonl, a row a step, beside those of an interrupted run before.

    verl empties its file when it starts again, so this comes first.
    """
    rows, gpus = {row["step"]: row for row in run.metrics()}, gpus_of(recipe)
    for logged in read_rows(metrics):
        values = {key: value for key, value in logged["data"].items() if isinstance(value, int | float)}
        if "critic/score/mean" in values:
            values["reward"] = values.get("df/reward_of_answers", values["critic/score/mean"])
        if "df/answers" in values:
            spent = spent_in(values, gpus).metrics(_num_repairs(recipe))
            values |= {f"df/{name}": value for name, value in spent.items()}
        rows[logged["step"]] = rows.get(logged["step"], {"step": logged["step"]}) | values
    run.rewind(-1)
    wall = 0.0
    for step, row in sorted(rows.items()):
        wall += row.get("timing_s/step", 0.0)
        row |= {"wall_seconds": wall} | ({"gpu_seconds": gpus * wall} if gpus else {})
        if step in measured:
            held_out = measured[step].summary()
            row |= {name: held_out[name] for name in HELD_OUT}
        run.log(**row)


def gpus_of(recipe: TrainRecipe) -> float:
    """The GPUs that a run holds: verl's pool, replicas of the repair model on GPUs of their own, and servers'.

    Of this machine, where the run starts its servers, no more are counted than it has.
    """
    settings = overrides(recipe, gpus_here())
    if settings.get("trainer.device") == "cpu":
        return 0.0
    pool = settings["trainer.nnodes"] * settings["trainer.n_gpus_per_node"]
    apart = (recipe.repairs.replicas or 1) if recipe.needs_repairer and recipe.repairs.placement == "own" else 0
    elsewhere, started = gpus_of_servers(endpoints_of(recipe).values())
    here = set(visible_gpus())
    free = max(0, len(here) - settings["trainer.n_gpus_per_node"] - apart)
    return float(pool + apart + elsewhere + len(started - here) + min(len(started & here), free))


def spent_in(step: dict[str, Any], gpus: float = 0.0) -> Spent:
    """A step's ledger, from verl's timers, with `gpus` held.

    The repair model works while answers to other prompts are still sampled. Its busy seconds are billed to `repair`,
    and the rest of the time that the step waits for answers to `rollout`. Saving lies between the stages; validation is
    not in the step.
    """
    seconds = {name.removeprefix("timing_s/"): value for name, value in step.items() if name.startswith("timing_s/")}
    sampling = seconds["gen"] + seconds.get("reward", 0.0)
    repair = min(step["df/seconds/repair"], sampling)
    wall = {
        "rollout": sampling - repair,
        "repair": repair,
        "align": seconds["adv"],
        "update": sum(seconds.get(name, 0.0) for name in UPDATE),
        "total": seconds["step"],
    }
    answers, wrong, repaired = (step[f"df/{name}"] for name in ("answers", "wrong", "requested"))
    clocks = {"wall": wall} | ({"gpu": {name: gpus * value for name, value in wall.items()}} if gpus else {})
    return Spent(clocks, Counts(answers, answers - step["df/unjudged"], wrong, repaired), steps=1)


def evaluations(recipe: TrainRecipe, run: Run) -> dict[int, Evaluation]:
    """verl's validations by step, with a verdict on every answer. Their time is not known, and is NaN.

    A reward function of one's own that does not say which `question` it graded leaves the answers without a task.
    """
    if not is_evaluated(recipe):
        return {}
    lowest = least_right(threshold_of(recipe))
    data = Dataset.from_parquet(str(run.folder / "test.parquet")).select_columns(["ability", "prompt"])
    questions = {
        str(i): (row["ability"], row["prompt"][-1]["content"].replace("<image>", "")) for i, row in enumerate(data)
    }

    def prediction(row: dict[str, Any]) -> Prediction:
        task, question = questions.get(row.get("question", ""), ("", row["input"]))
        correct = None if row.get("unjudged") else row["score"] >= lowest
        return Prediction(task, question, row["gts"], row["output"], correct)

    files = {int(path.stem): path for path in validation_folder(run).glob("*.jsonl")}
    return {
        step: Evaluation([prediction(row) for row in read_rows(path)], float("nan")) for step, path in files.items()
    }


def is_evaluated(recipe: TrainRecipe) -> bool:
    """Whether the recipe has held-out questions."""
    return recipe.data is None or recipe.test_data is not None


def _num_repairs(recipe: TrainRecipe) -> int:
    return recipe.trl.get("num_repairs", VerlSettings.num_repairs)
