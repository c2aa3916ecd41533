"""What answers, where data comes from, and what is said when something is missing; with the real harness."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import ROWS, TASKS, dataset, picture
from datasets import Dataset
from fastapi import FastAPI
from replay import Replay
from servers.openai_server import serving
from test_scores import run, summary, with_copies

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.models.adapters import name_base, with_lora
from difference_feedback.models.generate import generate_texts
from difference_feedback.models.load import load_model
from difference_feedback.policy import benchmark_answers, benchmarks
from difference_feedback.policy.harness import Harness, find_harness
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.sections import Lora

pytestmark = pytest.mark.benchmarks
AI2D = [
    "\n".join(
        [
            case.columns["question"],
            *(f"{letter}. {option}" for letter, option in zip("ABCD", case.columns["options"], strict=True)),
            "Answer with the option's letter from the given choices directly.",
        ]
    )
    for case in ROWS["ai2d"]
]
"""The harness's prompts."""


def responses(folder: Path, name: str) -> list[str]:
    return [row["response"] for row in read_rows(folder / TASKS[name] / "predictions.jsonl")]


def answers_of(model: str, count: int, tokens: int, **form: str) -> list[str]:
    """The model's greedy answers to the first rows of AI2D, asked without the harness."""
    system = [{"role": "system", "content": [{"type": "text", "text": form["system"]}]}] if form else []
    prompts = [
        [*system, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        for text in AI2D[:count]
    ]
    images = [[picture("ai2d", number)] for number in range(count)]
    sampled = generate_texts(*load_model(model), prompts, images, max_new_tokens=tokens, temperature=0.0)
    return [answer.text for [answer] in sampled]


def adapter_on(model: Path, folder: Path) -> Path:
    """A LoRA adapter that changes the answers."""
    import torch

    adapted = with_lora(load_model(str(model))[0], Lora(rank=4, alpha=64), seed=0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    adapted.save_pretrained(folder)
    name_base(folder, str(model))
    return folder


def test_a_model_in_this_process_an_adapter_and_the_folder_of_a_run(
    copies: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    settings = [*with_copies(copies, "ai2d"), "limit=4", "max_new_tokens=6"]
    run(str(tiny), "ai2d", *settings, "--output", str(tmp_path / "base"))
    assert responses(tmp_path / "base", "ai2d") == answers_of(str(tiny), 4, 6)
    assert summary(tmp_path / "base", "ai2d")["cut_off"] == 4

    recipe = TrainRecipe(model=str(tiny), method="df-grpo", objective="gspo", repair_model="policy")
    trained = Run(tmp_path / "df", recipe)
    adapter_on(tiny, trained.model_path)
    trained.finish({"method": "df-grpo"})
    run(str(trained.folder), "ai2d", *settings, "system_prompt=look at the image")
    adapted = responses(trained.folder / "benchmarks", "ai2d")
    assert adapted == answers_of(str(trained.model_path), 4, 6, system="look at the image")
    assert adapted != responses(tmp_path / "base", "ai2d")


def test_two_ranks_share_the_questions(copies: dict[str, Path], tiny: Path, tmp_path: Path) -> None:
    words = ["ai2d", "mmmu", *with_copies(copies, "ai2d", "mmmu"), "max_new_tokens=5", "batch_size=2"]
    run(str(tiny), *words, "--output", str(tmp_path / "one"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launch, "-m", "difference_feedback.cli", "evaluate", str(tiny), *words]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--output", str(tmp_path / "two")], check=True, capture_output=True, env=environment)
    for name in ("ai2d", "mmmu"):
        assert responses(tmp_path / "two", name) == responses(tmp_path / "one", name)
        assert summary(tmp_path / "two", name)["score"] == summary(tmp_path / "one", name)["score"]


def test_an_interrupted_run_goes_on_after_its_last_answers(
    copies: dict[str, Path], tiny: Path, replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_answers, "_BATCHES", 1)  # write after every batch
    words = [str(tiny), "mmstar", "ai2d", *with_copies(copies, "mmstar", "ai2d"), "--output", str(tmp_path)]
    words += ["batch_size=2", f"endpoint.url={replay.url}", "endpoint.concurrency=2", "endpoint.retries=0"]
    replay.refuse_after = 10
    assert "out of order" in run(*words, code=2)
    assert (tmp_path / "mmstar" / "summary.json").is_file()
    assert len(read_rows(tmp_path / "ai2d" / "answers.jsonl")) == 4
    replay.refuse_after = None
    replay.forget()
    run(*words)
    assert len(replay.requests) == 2
    assert responses(tmp_path, "ai2d") == [case.response for case in ROWS["ai2d"]]
    assert summary(tmp_path, "ai2d")["right"] == sum(case.right for case in ROWS["ai2d"])
    assert "another recipe" in run(*words, "max_new_tokens=7", code=2), "scores of two settings are not mixed"


def test_a_judge_of_the_user_s_is_the_only_one_asked(
    copies: dict[str, Path], tiny: Path, replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-user-s-own")
    app, asked, keys = FastAPI(), list[str](), set[str]()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "judge", "object": "model"}]}

    from fastapi import Request

    @app.post("/v1/chat/completions")
    def judge(body: dict[str, Any], request: Request) -> dict[str, Any]:
        text = body["messages"][-1]["content"]
        text = text if isinstance(text, str) else text[0]["text"]
        asked.append(text)
        keys.add(request.headers.get("authorization", ""))
        if "Extracted answer:" in text:
            answer = re.findall(r"\[[\d, ]+\]|\([A-Z]\)|[\d.]*\d", text.rpartition("\n\n")[0])[-1]
        else:
            answer = "1" if any(case.right and case.response in text for case in ROWS["mathverse"]) else "0"
        message = {"role": "assistant", "content": answer}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
        return made | {"choices": [choice], "usage": usage}

    names = ("mathvista", "mathverse")
    with serving(app) as url:
        words = [str(tiny), *names, *with_copies(copies, *names), f"endpoint.url={replay.url}", f"judge.url={url}"]
        run(*words, "judge.model=judge", "--output", str(tmp_path))
    assert asked
    assert "the-user-s-own" not in str(keys), "a key goes to the server that it is for, and to no other"
    verse = sum(case.right for case in ROWS["mathverse"]) / len(ROWS["mathverse"])
    assert summary(tmp_path, "mathverse")["harness_score"] == pytest.approx(verse)
    # Of the 5 right answers the harness takes the one with a decimal place for wrong: it rounds to `1.0` places.
    assert summary(tmp_path, "mathvista")["harness_score"] == pytest.approx(4 / 8)
    assert summary(tmp_path, "mathvista")["judge"] == "judge"
    assert summary(tmp_path, "mathvista")["score"] == 5 / 8


def test_any_other_task_from_a_file_is_scored_by_the_harness(tiny: Path, replay: Replay, tmp_path: Path) -> None:
    asked = "Which way does the road turn?\nA. left\nB. right\nPlease answer directly with only the letter."
    rows = [
        {"question": asked, "answer": answer, "image": picture("ai2d", number), "image_path": "own"}
        for number, answer in ((0, "A"), (2, "C"), (3, "B"))  # the server answers A, B, B
    ]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "road.parquet"))
    words = ["realworldqa", "--task-data", f"realworldqa={tmp_path / 'road.parquet'}", f"endpoint.url={replay.url}"]
    output = run(str(tiny), *words, "--output", str(tmp_path / "out"))
    scores = json.loads((tmp_path / "out" / "realworldqa" / "summary.json").read_text())
    assert scores["harness_score"] == pytest.approx(2 / 3)
    assert "score" not in scores
    assert "66.7%" in output
    assert "lmms-eval: exact_match" in output


def test_mistakes_are_told_before_a_model_is_loaded(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(benchmarks, "load_model", None)
    output = run(str(tiny), "mmstar", "--output", str(tmp_path / "out"), code=2)
    assert "Lin-Chen/MMStar" in output
    assert "--task-data mmstar=" in output

    dataset("ai2d").remove_columns("options").save_to_disk(tmp_path / "bare")
    dataset("ai2d").to_parquet(str(tmp_path / "copy" / "data" / "test-00000.parquet"))
    with Harness(find_harness()[0], tmp_path / "harness.log") as harness:
        with pytest.raises(ConfigError, match=r"'mathvist'.*mathvista"):
            harness.ask("names", names=["mathvist"])
        with pytest.raises(ConfigError, match="multiple_choice"):
            harness.ask("names", names=["seedbench_ppl"])
        leaves = [entry["task"] for entry in harness.ask("names", names=["mathvista_testmini"])["tasks"]]
        assert leaves == [f"mathvista_testmini_{form}" for form in ("cot", "solution", "format")]
        settings = {"task": "ai2d", "folder": str(tmp_path), "model_type": "qwen2_5_vl", "limit": 2}
        with pytest.raises(DataError, match=r"no column 'options'.*--task-data ai2d="):
            harness.ask("load", data=str(tmp_path / "bare"), **settings)
        assert harness.ask("load", data=str(tmp_path / "copy"), **settings) == {"requests": 2}
