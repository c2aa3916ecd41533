"""What verl logged and dumped, as a run's folder: accuracy, cost, interrupted runs. Needs neither verl nor Ray."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image

from difference_feedback.errors import ConfigError
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.method.cost import ledger
from difference_feedback.report.collect import load_report
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.verl.launch import arguments
from difference_feedback.verl.results import collect, evaluations, gpus_of, keep_metrics
from difference_feedback.verl.reward import compute_score
from difference_feedback.world import sample_problems

TIMERS = {"gen": 4.0, "old_log_prob": 0.5, "adv": 0.25, "update_actor": 1.0, "update_weights": 0.25, "step": 7.0}
COUNTS = {"answers": 16, "unjudged": 0, "wrong": 8, "requested": 6}


def run_of(folder: Path, *changes: str) -> Run:
    small = (
        "host=verl",
        "verl.trainer.n_gpus_per_node=1",
        "repair_model=nano",
        "trl.num_repairs=2",
        "problems=8",
        "evaluation.problems=6",
    )
    run = Run(folder, load_recipe("nano_df_grpo", TrainRecipe, [*small, *changes]))
    assert isinstance(run.recipe, TrainRecipe)
    arguments(run.recipe, run)
    return run


@pytest.mark.parametrize(
    ("changes", "gpus"),
    [
        (["verl.trainer.nnodes=2", "verl.trainer.n_gpus_per_node=8"], 16),
        (["verl.trainer.n_gpus_per_node=6", "repairs={placement: own, replicas: 2}"], 8),
        (
            [
                "verl.trainer.n_gpus_per_node=8",
                "repair_model=null",
                "repairs={via: vllm, endpoint: {url: http://127.0.0.1:1/v1, model: m, billed_gpus: 4.0}}",
            ],
            12,
        ),
        (
            [
                "verl.trainer.n_gpus_per_node=6",
                "repair_model=null",
                "repairs={via: vllm, endpoint: {url: http://127.0.0.1:1/v1, model: m, serve: {gpus: '5,6,7'}}}",
            ],
            8,
        ),
        (["verl.trainer.device=cpu"], 0),
    ],
)
def test_the_gpus_that_a_run_holds(monkeypatch: pytest.MonkeyPatch, changes: list[str], gpus: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    values = ["host=verl", "verl.trainer.n_gpus_per_node=1", "repair_model=nano", *changes]
    assert gpus_of(load_recipe("nano_df_grpo", TrainRecipe, values)) == gpus


def step(number: int, repair: float = 1.0, **more: Any) -> dict[str, Any]:
    data = {f"timing_s/{name}": seconds for name, seconds in TIMERS.items()}
    data |= {f"df/{name}": value for name, value in COUNTS.items()}
    return {"step": number, "data": data | {"df/seconds/repair": repair, "critic/score/mean": 0.5} | more}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def validate(run: Run, number: int, right: int) -> None:
    """verl's dump: in an order of its own, the verdict by the package's rule."""
    rows = []
    for index, problem in enumerate(sample_problems("test", 6, run.recipe.evaluation.seed)):
        text = f"so it is . answer {problem.answer if index < right else 'never'}"
        graded = compute_score("embedded", text, problem.answer, {"index": index})
        rows.append({"input": "user ...", "output": text, "gts": problem.answer, "step": number, **graded})
    write(run.folder / "validation" / f"{number}.jsonl", rows[::-1])


def test_the_summary_has_accuracy_and_cost(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    validate(run, 0, right=2)
    validate(run, 2, right=5)
    metrics = write(tmp_path / "verl.jsonl", [{"step": 0, "data": {"val-core/x": 0.3}}, step(1), step(2, repair=3.0)])
    summary = collect(run.recipe, run, metrics)
    assert summary == run.summary()
    assert (summary["accuracy"], summary["base_accuracy"], summary["problems"]) == (5 / 6, 2 / 6, 6)
    assert summary["interval"] == list(wilson_interval(5, 6))
    problems = sample_problems("test", 6, run.recipe.evaluation.seed)
    assert summary["tasks"] == {problem.task: float(i < 5) for i, problem in enumerate(problems)}
    predictions = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]
    assert {(p["task"], p["question"]) for p in predictions} == {(p.task, p.question) for p in problems}

    # Two steps: 4 s waiting for answers, of which 1 s and 3 s are the repair model's.
    assert summary["cpu_seconds"] is None
    assert summary["wall_seconds"] == 14.0
    assert summary["gpu_seconds"] == 14.0
    assert set(summary["cost"]) == {"wall", "gpu"}
    wall = summary["cost"]["wall"]
    assert wall["stages"] == {"rollout": 2.0, "repair": 2.0, "align": 0.25, "update": 1.75}
    assert (wall["base"], wall["measured"], wall["p_err"]) == (3.75, 7.0, 0.5)
    assert wall["repair"] == pytest.approx(2.0 / (6 * 2))
    assert wall["predicted"] == pytest.approx(3.75 + 8 * 2 * wall["repair"])
    assert ledger(run.metrics()).terms(2)["wall"].to_dict() == wall

    data = load_report([run.folder])
    assert data.methods["DF-GRPO"].tasks == summary["tasks"]
    assert [(p.step, p.wall_seconds, p.accuracy) for p in data.curves[0].points] == [(0, 0.0, 2 / 6), (2, 14.0, 5 / 6)]
    assert data.costs["DF-GRPO"]["wall"].to_dict() == wall


def test_an_interrupted_run_keeps_what_verl_overwrites(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    before = write(tmp_path / "verl.jsonl", [step(1), step(2), step(3)])
    keep_metrics(run.recipe, run, before, {})
    resumed = write(tmp_path / "verl.jsonl", [{"step": 2, "data": {"val-core/x": 0.3}}, step(3, repair=2.0), step(4)])
    summary = collect(run.recipe, run, resumed)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert (rows[1]["timing_s/step"], rows[1]["val-core/x"], rows[2]["df/seconds/repair"]) == (7.0, 0.3, 2.0)
    assert [row["wall_seconds"] for row in rows] == [7.0, 14.0, 21.0, 28.0]
    assert summary["cost"]["wall"]["stages"]["repair"] == (1 + 1 + 2 + 1) / 4
    assert "accuracy" not in summary, "nothing was validated"


def test_without_verls_file_the_remedy_is_named(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"absent\.jsonl.*verl\.trainer\.logger"):
        collect(run.recipe, run, tmp_path / "absent.jsonl")


def test_answers_graded_by_a_foreign_rule_have_no_task(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "trl.reward_threshold=0.5")
    rows = [{"input": "how many ?", "output": "two", "gts": "2", "score": score} for score in (0.4, 0.5 - 1e-9)]
    write(run.folder / "validation" / "7.jsonl", rows)
    (found,) = evaluations(run.recipe, run).values()
    assert (found.accuracy, [p.task for p in found.predictions]) == (0.5, ["", ""])
    assert found.predictions[0].question == "how many ?"


def test_held_out_questions_decide_whether_verl_validates(tmp_path: Path) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"question": f"how much is {i} plus {i} ?", "image": "a.png", "answer": str(2 * i)} for i in range(8)]
    data = write(tmp_path / "rows.jsonl", rows)

    def given(name: str, *changes: str) -> dict[str, str]:
        run = run_of(tmp_path / name, *changes)
        lines = (line.split("=", 1) for line in arguments(run.recipe, run))
        return {key: value.strip("'") for key, value in lines}

    embedded = given("a", "evaluation.every=3")
    assert (embedded["trainer.test_freq"], embedded["trainer.val_before_train"]) == ("3", "true")
    assert embedded["trainer.validation_data_dir"] == str(tmp_path / "a" / "validation")
    without = given("b", f"data.path={data}")
    assert (without["trainer.test_freq"], without["trainer.val_before_train"]) == ("-1", "false")
    tested = given("c", f"data.path={data}", f"test_data.path={data}", "evaluation.every=0")
    assert int(tested["trainer.test_freq"]) > 10**6, "at the end alone"
    first = Dataset.from_parquet(tested["data.val_files"])[0]
    assert first["prompt"][0]["content"].startswith("<image>how much is 0 plus 0 ?")
