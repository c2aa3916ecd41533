"""Benchmarks without the harness: what MODEL names, what stands around its prompts, and the tables.

`tests/benchmarks` runs the harness itself.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from servers.unruly_server import UnrulyServer, unruly
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.errors import ConfigError
from difference_feedback.judges.intervals import mean_interval, wilson_interval
from difference_feedback.policy.benchmark_answers import in_form, until
from difference_feedback.policy.benchmarks import NAMES, as_share, place_for
from difference_feedback.policy.harness import check_judge, find_harness, harness_environment
from difference_feedback.policy.harness_worker import JudgeWatch, Worker, as_verdict, chosen_metric
from difference_feedback.report.benchmarks import PAPER, TITLES, benchmark_table
from difference_feedback.report.collect import load_report
from difference_feedback.report.data import BenchmarkScore
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import BenchmarksRecipe, TrainRecipe
from difference_feedback.runs.sections import Endpoint


def evaluate(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", *words])
    assert result.exit_code == 2, result.output
    return result.output


def trained(folder: Path, **keys: object) -> Run:
    """A finished run with a model and a checkpoint."""
    run = Run(folder, build_recipe(TrainRecipe, {"kind": "train", "repair_model": "policy"} | keys))
    for path in (run.model_path, run.checkpoints / "checkpoint-40"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text("{}")
        (path / "model.safetensors").touch()
    run.finish({"method": keys.get("method", "df-grpo")})
    return run


def score(task: str, right: int, of: int, **more: object) -> dict[str, object]:
    """What `evaluate` leaves for a task."""
    benchmark = next((name for name, leaf in NAMES.items() if leaf == task), None)
    shares = {"score": right / of, "interval": wilson_interval(right, of), "rule": benchmark}
    return {"task": task, "benchmark": benchmark, "model": "m", "problems": of} | shares | more


def leave(folder: Path, *scores: dict[str, object]) -> None:
    for values in scores:
        recipe = build_recipe(BenchmarksRecipe, {"kind": "benchmarks", "model": "m", "tasks": [values["task"]]})
        Run(folder / str(values["task"]), recipe).finish(values)


def test_a_run_a_model_a_checkpoint_and_a_hub_name(tmp_path: Path) -> None:
    run = trained(tmp_path / "df")
    assert place_for(str(run.folder)).model == str(run.model_path)
    for name in (run.folder, run.model_path):
        assert place_for(str(name)).folder == run.folder / "benchmarks"
    checkpoint = run.checkpoints / "checkpoint-40"
    assert place_for(str(checkpoint)).folder == run.folder / "benchmarks-checkpoint-40"
    assert place_for(str(checkpoint)).model == str(checkpoint)
    assert place_for("Qwen/Qwen2.5-VL-7B-Instruct").folder == Path("runs/benchmarks/Qwen--Qwen2.5-VL-7B-Instruct")
    (run.model_path / "config.json").unlink()
    (run.model_path / "model.safetensors").unlink()
    run.model_path.rmdir()
    with pytest.raises(ConfigError, match=r"checkpoint-40"):
        place_for(str(run.folder))


def test_a_run_that_starts_anew_has_no_scores_of_the_old_model(tmp_path: Path) -> None:
    run = trained(tmp_path / "df")
    leave(run.folder / "benchmarks", score("ai2d", 3, 4))
    Run(run.folder, run.recipe, overwrite=True)
    assert not (run.folder / "benchmarks").exists()


def test_the_recipe_s_texts_stand_around_the_harness_s_prompt() -> None:
    parts = [{"type": "text", "text": "What does"}, {"type": "image"}, {"type": "text", "text": "show?"}]
    asked = [{"role": "user", "content": parts}]
    assert in_form(asked, prompt_form(None)) == asked
    system, user = in_form(asked, prompt_form("Think.", "Q: {question} Box it."))
    assert system["content"] == [{"type": "text", "text": "Think."}]
    texts = [part.get("text") for part in user["content"]]
    assert texts == ["Q: What does", None, "show? Box it."]
    image_first = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    [turn] = in_form(image_first, prompt_form(None, "{question} Box it."))
    assert turn["content"] == [{"type": "image"}, {"type": "text", "text": "Which? Box it."}]


def test_an_answer_ends_at_the_first_stop() -> None:
    assert until("5 Q: 6</s>7", ["</s>", "Q:"]) == "5 "
    assert until("5", []) == "5"


@pytest.mark.parametrize(
    ("value", "rows", "share"),
    [
        (66.67, {"0": 1.0, "1": 0.0, "2": 1.0}, 2 / 3),  # percent, rounded
        (0.5, {"0": 1.0, "1": 0.0}, 0.5),
        (0.75, {"0": 1.0, "1": 0.0, "2": 0.0}, 0.75),  # the mean of categories, not of rows
        (0.0, {"0": 0.0}, 0.0),
        (1.0, {"0": 1.0}, 1.0),
        (0.4, {}, 0.4),
        (1823.5, {}, None),
        (None, {}, None),
    ],
)
def test_percent_and_shares_are_told_apart(value: float | None, rows: dict[str, float], share: float | None) -> None:
    assert as_share({"value": value, "rows": rows}) == (None if share is None else pytest.approx(share))


def test_the_metric_of_a_task_is_one_that_judges_every_row() -> None:
    samples = [
        {"doc_id": 0, "math": {"score": 1.0}, "average": {"score": 1.0}, "submission": {"id": 1}},
        {"doc_id": 1, "logic": {"score": 0.0}, "average": {"score": 0.0}, "submission": {"id": 2}},
    ]
    aggregated = {"math,none": 1.0, "logic,none": 0.0, "average,none": 0.5, "average_stderr,none": 0.1, "alias": "x"}
    chosen = chosen_metric(["submission", "math", "logic", "average"], aggregated, samples)
    assert (chosen["metric"], chosen["value"], chosen["rows"]) == ("average", 0.5, {0: 1.0, 1: 0.0})
    assert chosen_metric(["submission"], {"submission,none": None}, samples)["no_answers"]
    assert [as_verdict(value) for value in (True, 0.25, {"true_false": False}, {"scores": [True]}, "A", 7, None)] == [
        1.0,
        0.25,
        0.0,
        1.0,
        None,
        None,
        None,
    ]


def test_without_a_judge_the_harness_knows_no_server_and_no_key() -> None:
    user = {"OPENAI_API_KEY": "secret", "AZURE_ENDPOINT": "https://a", "PATH": "/bin", "RANK": "1", "HF_TOKEN": "t"}
    alone = harness_environment(user, None)
    assert "secret" not in alone.values()
    assert alone["OPENAI_API_URL"].startswith("http://127.0.0.1:")
    assert {"AZURE_ENDPOINT", "RANK"} & set(alone) == set()
    assert (alone["PATH"], alone["HF_TOKEN"]) == ("/bin", "t")
    judge = Endpoint(url="http://127.0.0.1:8000/v1", model="big", api_key_env="JUDGE_KEY")
    judged = harness_environment(user | {"JUDGE_KEY": "its own"}, judge)
    assert (judged["OPENAI_API_URL"], judged["MODEL_VERSION"]) == (judge.url, "big")
    assert judged["OPENAI_API_KEY"] == "its own"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[JudgeWatch, UnrulyServer]]:
    """The watch over a judge on loopback, as the harness's process has it."""
    for kind in (requests.Session, httpx.Client, httpx.AsyncClient):
        monkeypatch.setattr(kind, "send", kind.send)  # put back at the end
    with unruly() as server:
        yield JudgeWatch(server.url), server


def by_requests(url: str, body: object) -> int:
    return requests.post(url, json=body, timeout=5).status_code


def by_httpx(url: str, body: object) -> int:
    return httpx.post(url, json=body).status_code


def by_httpx_async(url: str, body: object) -> int:
    async def ask() -> int:
        async with httpx.AsyncClient() as client:
            return (await client.post(url, json=body)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("post", [by_requests, by_httpx, by_httpx_async])
@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 429}, {"wire": b"no HTTP at all\r\n\r\n"}], ids=str)
def test_a_judge_that_fails_is_noted_until_the_same_question_is_answered(
    watch: tuple[JudgeWatch, UnrulyServer], post: Callable[[str, object], int], fault: dict[str, object]
) -> None:
    judge, server = watch
    server.script = [fault, "0", "1"]
    url = f"{server.url}/chat/completions"
    with suppress(Exception):  # as tasks do
        post(url, {"question": 1})
    assert post(url, {"question": 2}) == 200
    [reason] = judge.failures.values()  # the answer to another question does not mend it
    assert str(fault.get("status", "")) in reason
    assert post(url, {"question": 1}) == 200
    assert not judge.failures


@pytest.mark.parametrize("post", [by_requests, by_httpx, by_httpx_async])
def test_a_task_that_posts_to_the_base_url_reaches_the_judge(
    watch: tuple[JudgeWatch, UnrulyServer], post: Callable[[str, object], int]
) -> None:
    _, server = watch
    server.script = ["1"]
    for base in (server.url, f"{server.url}/", f"{server.url}/chat/completions"):
        post(base, {})
    assert server.paths == ["/v1/chat/completions"] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 200])
def test_a_judge_that_refuses_is_found_before_the_model_is_loaded(status: int) -> None:
    with unruly() as server:
        server.script = [{"status": status}] if status != 200 else ["yes"]
        refusal = pytest.raises(ConfigError, match=rf"judge: {server.url}.*HTTP {status}.*judge\.model")
        with refusal if status in (400, 401, 403, 404) else nullcontext():
            check_judge(Endpoint(url=server.url, model="m"))


class JudgedTask:
    """Stands for a task that takes a judge that fails for the verdict "wrong"."""

    def __init__(self, url: str) -> None:
        self.url = url

    def process_results(self) -> float:
        try:
            return float(requests.post(self.url, json={}, timeout=5).status_code == 200)
        except requests.RequestException:
            return 0.0

    def aggregation(self) -> dict[str, object]:
        return {"accuracy": None}


@pytest.mark.parametrize(
    ("step", "expected"), [("1", "1.0"), ({"status": 401}, "its judge failed (HTTP 401; without an answer: 1)")]
)
def test_a_score_is_left_out_where_its_judge_failed(
    watch: tuple[JudgeWatch, UnrulyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: Any, expected: str
) -> None:
    judge, server = watch
    server.script = [step]
    (tmp_path / "answers.jsonl").touch()
    worker = Worker.__new__(Worker)  # without the harness
    worker.guard, worker.watch, worker.tasks = SimpleNamespace(), judge, {"task": JudgedTask(server.url)}

    def evaluated(task: str, *_: object) -> dict[str, object]:
        verdict = worker.tasks[task].process_results()
        return {"results": {task: {"accuracy,none": verdict}}, "samples": {task: [{"doc_id": 0, "accuracy": verdict}]}}

    monkeypatch.setattr(worker, "_evaluate", evaluated)
    scored = worker.score("task", str(tmp_path), None)
    assert str(scored.get("left_out", scored.get("value"))) == expected


def test_mistakes_name_the_place_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFERENCE_FEEDBACK_HARNESS", raising=False)
    monkeypatch.chdir(tmp_path)
    for remedy in ("python -m venv .venv-harness", "pip install lmms-eval", "--harness"):
        assert remedy in evaluate("nano", "mathvista")
    with pytest.raises(ConfigError, match=r"--harness: .*no lmms-eval"):
        find_harness("/bin/true")
    assert "data.ai2d" in evaluate("nano", "ai2d", "--task-data", "ai2d=nowhere")
    assert "TASK=PATH" in evaluate("nano", "ai2d", "--task-data", "ai2d")
    assert "--task-data" in evaluate("nano_evaluate", "--task-data", "ai2d=x")
    assert "no such folder" in evaluate("./nowhere", "ai2d")
    assert "max_new_token" in evaluate("nano", "ai2d", "max_new_token=7")
    assert "mathvista" in evaluate(str(tmp_path))
    assert "Lower it" in evaluate("nano", "ai2d", "max_new_tokens=100000")
    assert "endpoint.url" in evaluate("nano", "ai2d", "endpoint.url=http://127.0.0.1:9/v1")
    assert "judge.url" in evaluate("nano", "ai2d", "judge.url=http://127.0.0.1:9/v1", "judge.model=m")


def test_a_recipe_says_the_same_as_the_words(tmp_path: Path) -> None:
    """A finished task is shown without the harness, by whichever way it is named."""
    leave(tmp_path / "out", score("ai2d", 3, 4))
    file = tmp_path / "six.yaml"
    file.write_text("kind: benchmarks\nmodel: m\ntasks: [ai2d]\n")
    outputs = []
    for words in (["m", "ai2d"], [str(file)], [str(file), "seed=0"]):
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", *words, "--output", str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert "75.0%" in outputs[0]
    assert len(set(outputs)) == 1
    assert "another recipe" in evaluate(str(file), "seed=1", "--output", str(tmp_path / "out"))


def test_base_baseline_and_df_stand_side_by_side_with_the_paper_s_row(tmp_path: Path) -> None:
    rights = {"base": 20, "gspo": 30, "df": 40}
    runs = {
        name: trained(tmp_path / name, method=method, objective="gspo").folder
        for name, method in (("gspo", "grpo"), ("df", "df-grpo"))
    }
    folders = {"base": tmp_path / "base"} | runs
    for name, right in rights.items():
        place = folders[name] if name == "base" else folders[name] / "benchmarks"
        leave(place, *(score(task, right + 2 * i, 60) for i, task in enumerate(NAMES.values())))
    table = benchmark_table(load_report(list(folders.values())).benchmarks)
    assert table is not None
    assert table.columns == [*TITLES.values(), "mean"]
    assert [row.name for row in table.rows] == ["m", "GSPO (gspo)", "DF-GSPO (df)", PAPER.name]
    for row, right in zip(table.rows, rights.values(), strict=False):
        values = [right + 2 * i for i in range(6)]
        assert [cell.value for cell in row.cells] == [f"{100 * value / 60:.1f}" for value in [*values, np.mean(values)]]
        low, high = wilson_interval(right, 60)
        assert row.cells[0].interval == f"{100 * low:.1f} – {100 * high:.1f}"
    published = [f"{100 * value:.1f}" for value in PAPER.scores.values()]
    assert [cell.value for cell in table.rows[-1].cells][:6] == published
    assert table.notes


def test_a_table_with_gaps_other_tasks_and_hostile_names(tmp_path: Path) -> None:
    other = {"task": "road", "model": "<b>m</b>", "problems": 3, "harness_metric": "cider", "harness_value": 1.25}
    leave(tmp_path / "a", score("ai2d", 3, 4), other)
    leave(tmp_path / "b", score("ai2d", 1, 4, harness_left_out="it asks a judge", model="<b>m</b>"))
    table = benchmark_table(load_report([tmp_path / "a", tmp_path / "b"]).benchmarks)
    assert table is not None
    assert table.columns == ["AI2D", "road", "mean"]
    assert [[cell.value for cell in row.cells] for row in table.rows] == [["75.0", "1.25", "–"], ["25.0", "–", "–"]]
    assert "judge" in table.rows[1].cells[0].note
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(page)])
    assert result.exit_code == 0
    assert "<b>m</b>" not in page.read_text()
    assert "&lt;b&gt;m&lt;/b&gt;" in page.read_text()


def test_a_bad_summary_is_named(tmp_path: Path) -> None:
    leave(tmp_path, score("ai2d", 3, 4))
    path = tmp_path / "ai2d" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"score": 75.0}))
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert re.search(r"ai2d/summary\.json: score", result.output.replace("\n", ""))


def test_the_interval_of_a_mean_is_that_of_repeated_measurements() -> None:
    """Coverage over 4,000 draws: 95 % up to a standard error of 0.35 points, and the cost of small samples."""
    rng = np.random.default_rng(0)
    shares, trials = np.array([0.2, 0.5, 0.9]), np.array([60, 200, 40])
    hits = 0
    for _ in range(4000):
        drawn = rng.binomial(trials, shares)
        low, high = mean_interval([(right / n, int(n)) for right, n in zip(drawn, trials, strict=True)])
        hits += low <= shares.mean() <= high
    assert hits / 4000 == pytest.approx(0.95, abs=0.015)
    assert mean_interval([]) == mean_interval([(0.5, 0)]) == (0.0, 1.0)
    low, high = mean_interval([(0.3, 1000)])
    assert (low, high) == pytest.approx(wilson_interval(300, 1000), abs=0.002)


def test_scores_are_shares() -> None:
    assert BenchmarkScore.model_validate(score("ai2d", 3, 4)).share == 0.75
    only = {"task": "road", "model": "m", "problems": 4, "harness_metric": "exact_match", "harness_score": 0.5}
    assert BenchmarkScore.model_validate(only).share == 0.5
