"""Mistakes in recipes: found by every command before a run's folder is made, and without torch."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check import HOST_OBJECTIVES, check, check_compared
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe, dump_recipe, load_recipe, shipped_recipes
from difference_feedback.runs.recipes import DRAFT_SCORES, EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.servers import check_server
from difference_feedback.runs.yaml_text import parse_yaml

NOBODY = "http://127.0.0.1:9/v1"
SERVER = f"{{url: {NOBODY}, model: m}}"
KEYED = f"{{url: {NOBODY}, model: m, api_key_env: NO_SUCH_KEY}}"
DF, RL = ("train", "nano_df_grpo", "repair_model=nano"), ("repair", "rl", "nano_repair_rl", "model=nano")
SCORED = ("train", "nano_df_grpo", "trl.weights=log_ratio", "trl.regroup=false")
SERVED = ("train", "nano_df_grpo", "repair_model=null", "repairs.via=endpoint")

MISTAKES: list[tuple[tuple[str, ...], str, str]] = [
    # arguments, the key at fault, the remedy
    (("train",), "repair_model", "Give the folder of a model"),
    (("train", "nano_df_grpo", "repair_model=null"), "repair_model", "repair sft"),
    (("train", "nano_df_grpo", "repair_model=unfinished/model"), "repair_model", "finish"),
    (("train", "nano_df_grpo", "repair_model=./adapter"), "repair_model", "safetensors"),
    (("train", "nano_df_grpo", "repair_model=./unweighted"), "repair_model", "save_pretrained"),
    (("train", "nano_df_grpo", "repair_model=./unfinished"), "repair_model", "finish"),
    ((*DF, "model=./rows.jsonl"), "model", "Give the folder"),
    ((*DF, "model=./none"), "model", "Give the folder"),
    ((*DF, "data.path=none.jsonl"), "data.path", "give a JSON Lines file"),
    ((*DF, "data.path=empty.jsonl"), "data.path", "write one {...} a line"),
    ((*DF, "data.path=./none"), "data.path", "a hub name"),
    ((*DF, "data.path=rows.jsonl", "test_data.path=none.jsonl"), "test_data.path", "give a JSON Lines file"),
    ((*DF, "data.path=rows.jsonl", "tasks=[count]"), "tasks", "leave one of the two out"),
    ((*DF, "data.path=rows.jsonl", "reward=embedded"), "reward", "use final-answer"),
    ((*DF, "reward=llm-judge"), "judge", "give both"),
    ((*DF, f"judge.endpoint={SERVER}"), "judge", "give both"),
    ((*DF, "reward=llm-judge", f"judge.endpoint={SERVER}"), "judge.endpoint.url", "start the server"),
    ((*DF, "reward=llm-judge", f"judge.endpoint={KEYED}"), "judge.endpoint.api_key_env", "set it"),
    ((*DF, "reward=llm-judge", "judge.endpoint={url: here, model: m}"), "judge.endpoint.url", "http://"),
    ((*DF, f"repairs.endpoint={SERVER}"), "repairs.endpoint", "set via"),
    ((*DF, "repairs.via=vllm", f"repairs.endpoint={SERVER}"), "repair_model", "asks a server"),
    (SERVED, "repairs.endpoint", "url and model"),
    ((*SERVED, f"repairs.endpoint={SERVER}"), "repairs.endpoint.url", "correct the url"),
    ((*DF, "repair_model=oracle", "data.path=rows.jsonl"), "repair_model: oracle", "give a repair model"),
    ((*SCORED, "repair_model=oracle"), "trl.weights: log_ratio", "a folder or hub name in repair_model"),
    (
        (*SCORED, "repair_model=null", "repairs.via=vllm", f"repairs.endpoint={SERVER}"),
        "trl.weights",
        "repairs.via: vllm",
    ),
    ((*SCORED, "repair_model=null", "trl.num_repairs=0"), "repair_model", "train one"),
    ((*SCORED, "host=verl"), "trl.weights: log_ratio", "use host: trl"),
    ((*DF, "trl.report_to=[wandb]"), "trl.report_to", "pip install wandb"),
    ((*DF, "trl.report_to=tensorbord"), "trl.report_to", "Did you mean 'tensorboard'"),
    ((*DF, "report_to=wandb"), "report_to", "pip install wandb"),
    ((*DF, "report_to=none", "trl.report_to=none"), "report_to", "leave one of the two out"),
    ((*DF, "reward=final_answer"), "reward", "Did you mean 'final-answer'"),
    ((*DF, "reward=none.py:f"), "reward: none.py:f", "must be a Python file"),
    ((*DF, "reward=rewards.py:g"), "reward: rewards.py:g", "Its functions: f, in_try"),
    ((*DF, "reward=rewards.py:Class"), "reward: rewards.py:Class", "name one that takes completions"),
    ((*DF, "reward=rewards.py:NUMBER"), "reward: rewards.py:NUMBER", "name one that takes completions"),
    ((*DF, "reward=broken.py:f"), "reward: broken.py:f", "line 2"),
    ((*DF, "reward={embedded: x}"), "reward", "a number as the weight of 'embedded'"),
    ((*DF, "reward={embedded: .nan}"), "reward", "as the weight of"),
    ((*DF, "reward={}"), "reward", "names to weights"),
    ((*DF, "reward={embedded: 0.5, final-answer: 0.4}"), "reward_threshold", "lower reward_threshold"),
    (
        (*DF, "reward={embedded: 1.0, rewards.py:f: 1.0}", "trl.reward_weights=[1, 2]"),
        "trl.reward_weights",
        "leave one",
    ),
    ((*DF, "trl.reward_weights=[1.0, 2.0]"), "trl.reward_weights", "several rewards"),
    ((*DF, "trl.reward_weights=[.nan]"), "trl.reward_weights", "a finite number"),
    ((*DF, "trl.reward_threshold=.nan"), "trl.reward_threshold", "give one"),
    ((*DF, "reward_threshold=.inf"), "reward_threshold", "a finite number"),
    ((*DF, "reward_threshold=1.0", "trl.reward_threshold=1.0"), "reward_threshold", "leave one of the two out"),
    ((*DF, "reward_threshold=2.0"), "reward_threshold", "Raise the weights"),
    ((*DF, "trl.max_steps=0"), "trl.max_steps", "greater than 0"),
    ((*DF, "tasks=[]"), "tasks", "at least 1"),
    ((*DF, "system_prompt=none.txt"), "system_prompt", "give a file"),
    ((*DF, "system_prompt=' '"), "system_prompt", "leave it out"),
    ((*DF, "format_prompt=Think first."), "format_prompt", "{question}"),
    ((*DF, "format_prompt='{question} {question}'"), "format_prompt", "once"),
    ((*DF, "format_prompt='<image>{question}'"), "format_prompt", "brings its own images"),
    ((*DF, "format_prompt=wrong.jinja"), "format_prompt", "{{ content }}"),
    ((*DF, "trl.max_prompt_length=9"), "trl.max_prompt_length", "without trl"),
    ((*DF, "max_prompt_length=0"), "max_prompt_length", "greater than 0"),
    ((*DF, "push_to_hub=name"), "push_to_hub", "owner/name"),
    ((*DF, "push_to_hub='an owner/name'"), "push_to_hub", "owner/name"),
    ((*DF, "push_to_hub=owner/name"), "push_to_hub", "hf auth login"),
    ((*DF, "push_to_hub=owner/name", "trl.push_to_hub=true"), "push_to_hub", "leave one of the two out"),
    ((*DF, "host=verl", "push_to_hub=owner/name"), "push_to_hub", "leave it out"),
    ((*DF, "host=verl", "max_prompt_length=9", "verl.data.max_prompt_length=9"), "max_prompt_length", "leave one"),
    ((*DF, "host=verl", "report_to=wandb", "verl.trainer.logger=[file]"), "report_to", "leave one of the two out"),
    ((*DF, "objective=ppo"), "objective", "host: verl"),
    ((*DF, "verl.trainer.nnodes=2"), "verl", "set host: verl"),
    ((*DF, "host=verl"), "host: verl", "docs/verl.md"),
    ((*DF, "host=verl", "objective=sapo"), "objective", "host: trl"),
    ((*DF, "host=verl", "lora={}"), "lora", "lora_rank"),
    ((*DF, "host=verl", "budget_cpu_seconds=9.0"), "budget_cpu_seconds", "leave it out"),
    ((*DF, "host=verl", "repair_model=policy"), "repair_model: policy", "use host: trl"),
    (("train", "nano_grpo", "repair_model=nano"), "repair_model", "use method: df-grpo"),
    (("repair", "sft", "nano_repair_sft", "model=runs/none/model"), "model", "Give the folder"),
    (("repair", "sft", "nano_repair_sft", "data=none.jsonl"), "data", "give a JSON Lines file"),
    (("repair", "sft", "nano_repair_sft", "trl.report_to=wandb"), "trl.report_to", "none"),
    (("repair", "rl", "nano_repair_rl", "model=runs/none/model"), "model", "Give the folder"),
    ((*RL, "policy=./none"), "policy", "Give the folder"),
    ((*RL, "data.path=rows.jsonl"), "audit.auditor", "audit.enabled=false"),
    ((*RL, "test_data.path=none.jsonl"), "test_data.path", "give a JSON Lines file"),
    ((*RL, "audit.auditor=endpoint"), "audit.endpoint", "url and model"),
    ((*RL, "audit.auditor=endpoint", f"audit.endpoint={SERVER}"), "audit.endpoint.url", "start the server"),
    ((*RL, "objective=ppo"), "objective", "choose one"),
    ((*RL, "reward=llm-judge"), "reward: llm-judge", "function of your own"),
    ((*RL, "reward=none.py:f"), "reward: none.py:f", "must be a Python file"),
    ((*RL, "format_prompt=none.jinja"), "format_prompt", "give a file"),
    (("repair", "sft", "nano_repair_sft", "system_prompt=none.md"), "system_prompt", "give a file"),
    (("repair", "sft", "nano_repair_sft", "push_to_hub=owner/name"), "push_to_hub", "hf auth login"),
    (("evaluate", "nano_evaluate", "reward=rewards.py:g"), "reward: rewards.py:g", "Its functions: f"),
    (("bench", "bench_fair", "train.reward=rewards.py:f"), "methods.grpo, train: reward", "Use one of embedded"),
    (("bench", "bench_fair", "train.push_to_hub=owner/name"), "methods.grpo, train: push_to_hub", "leave it out"),
    ((*RL, "evaluation.split=repair"), "evaluation.split", "use test"),
    (("evaluate", "nano_evaluate", "model=./none"), "model", "Give the folder"),
    (("evaluate", "nano_evaluate", "data.path=none.jsonl"), "data.path", "give a JSON Lines file"),
    (("evaluate", "nano_evaluate", "reward=llm-judge", f"judge.endpoint={SERVER}"), "judge.endpoint.url", "start"),
    (("bench", "bench_fair", "train.host=verl"), "methods.grpo, train: host", "use host: trl"),
    (("bench", "bench_fair", "train.model=./none"), "methods.grpo, train: model", "Give the folder"),
    (("bench", "bench_fair", "repair_sft.data=none.jsonl"), "methods.df_grpo, sft: data", "give a JSON Lines file"),
    (("bench", "bench_full", "repair_rl.policy=./none"), "methods.repair_rl, rl: policy", "Give the folder"),
    (("bench", "bench_fair", "methods.df_grpo.repair_model=null"), "methods.df_grpo, train: repair_model", "Give"),
    (("demo", "demo", "methods.grpo.set={host: verl}"), "methods.grpo, train: host", "use host: trl"),
    (("demo", "demo", "train.model=./none"), "methods.grpo, train: model", "Give the folder"),
    (("demo", "demo", "repair_sft.data=none.jsonl"), "methods.df_grpo, sft: data", "give a JSON Lines file"),
    (("demo", "demo", "repair_rl.audit={auditor: endpoint}"), "methods.df_grpo, rl: audit.endpoint", "url and"),
]

PROGRAM = """
import json, os, sys, time
from typer.testing import CliRunner
from difference_feedback.cli import app
rows = []
for arguments in json.load(sys.stdin):
    start = time.perf_counter()
    result = CliRunner().invoke(app, [*arguments, "--output", "out"])
    rows.append([result.exit_code, result.output, os.path.exists("out"), time.perf_counter() - start,
                 sorted({"torch", "transformers", "trl", "datasets"} & set(sys.modules))])
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders of models in several states of repair."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "rows.jsonl").write_text('{"question": "?", "image": "a.png", "answer": "1"}\n')
    (folder / "empty.jsonl").write_text("\n[1]\nno JSON\n")
    (folder / "rewards.py").write_text(
        "def f(completions, **_): ...\ntry:\n    def in_try(): ...\nexcept ValueError: ...\n"
        "class Class: ...\nNUMBER = 1\nraise SystemExit('it was run')\n"
    )
    (folder / "broken.py").write_text("a = 1\ndef f(:\n")
    (folder / "wrong.jinja").write_text("{{ contents }}")
    for name in ("adapter", "unweighted", "unfinished/model"):
        (folder / name).mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "nano"}')
    (folder / "unweighted" / "config.json").write_text("{}")
    (folder / "unfinished" / "versions.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([arguments for arguments, _, _ in MISTAKES]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.lower().endswith(("_proxy", "_token"))}
        | {"HF_HOME": str(folder / "hf")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(mistake[0])[:70] for mistake in MISTAKES])
def test_a_mistake_is_found_before_anything_is_loaded_or_made(outcomes: list[list[Any]], number: int) -> None:
    _, key, remedy = MISTAKES[number]
    code, text, made, seconds, heavy = outcomes[number]
    assert code == 2, text
    assert key in text
    assert remedy in text
    assert not made, "a run's folder was left"
    assert heavy == []
    assert seconds < 3


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if name.startswith("nano_") and name != "nano_repair_check"]
)
def test_shipped_recipes_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"repair_sft": RepairSFTRecipe, "repair_rl": RepairRLRecipe, "evaluate": EvaluateRecipe}
    from difference_feedback.runs.recipes import BaseRecipe

    kinds |= {"base": BaseRecipe}
    recipe = load_recipe(name, kinds.get(name.removeprefix("nano_"), TrainRecipe))
    made = [key for key in ("model", "repair_model") if str(getattr(recipe, key, "")).startswith("runs/")]
    check_compared(recipe, name, made)
    # A run's config.yaml spells out every default, and is a recipe, too.
    again = build_recipe(type(recipe), parse_yaml(dump_recipe(recipe), name))
    check_compared(again, name, made)


@pytest.fixture
def listening() -> Iterator[str]:
    """A url at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def test_a_server_that_listens_passes_and_one_that_is_not_used_is_not_asked(listening: str) -> None:
    endpoint = {"url": listening, "model": "m"}
    served = {"method": "df-grpo", "repairs": {"via": "endpoint", "endpoint": endpoint}}
    check(TrainRecipe.model_validate(served))
    nobody = {"url": NOBODY, "model": "m"}
    check(RepairRLRecipe.model_validate({"audit": {"enabled": False, "auditor": "endpoint", "endpoint": nobody}}))
    siblings = {"num_repairs": 0, "sibling_repairs": True}
    check(TrainRecipe.model_validate({"repairs": {"via": "endpoint", "endpoint": nobody}, "trl": siblings}))


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("status", [200, 401, 502])
def test_through_a_proxy_any_answer_counts_but_the_proxy_s_own_refusal(
    status: int, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("MODEL_KEY", "secret")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.handle_request)
        thread.start()
        endpoint = Endpoint(url="http://judge.invalid/v1", model="m", api_key_env="MODEL_KEY")
        with pytest.raises(ConfigError, match=r"judge.endpoint.url.*502") if status == 502 else nullcontext():
            check_server(endpoint, "judge.endpoint")
        thread.join()
    assert requests == [("http://judge.invalid/v1/models", None)], "the key is not sent"


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(url="http://judge.invalid/v1", model="m")
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"judge\.endpoint\.url: the environment's proxy.*NO_PROXY"):
        check_server(endpoint, "judge.endpoint")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1.*cannot be reached"):  # this machine is asked without one
        check_server(endpoint.model_copy(update={"url": NOBODY}), "judge.endpoint")


@pytest.mark.parametrize("key", ["sk-12345678 ", " sk-12345678", "sk-1234\n5678", "sk-…"])
def test_a_key_that_no_request_can_carry_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", key)
    with pytest.raises(ConfigError, match=r"judge\.endpoint\.api_key_env: the value of MODEL_KEY"):
        check_server(Endpoint(url=NOBODY, model="m", api_key_env="MODEL_KEY"), "judge.endpoint")


@pytest.mark.parametrize(
    ("module", "values", "key"),
    [
        ("peft", {"method": "grpo", "lora": {}}, "lora needs the package peft"),
        ("httpx", {"repairs": {"via": "endpoint", "endpoint": {"url": NOBODY, "model": "m"}}}, "repairs.endpoint.url"),
        ("trl", {"method": "grpo"}, "host: trl"),
        ("tensorboard", {"method": "grpo", "trl": {"report_to": "tensorboard"}}, "trl.report_to: tensorboard"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    module: str, values: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"{key}(.|\n)*pip install"):
        check(TrainRecipe.model_validate(values))


def test_a_finished_run_is_not_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from difference_feedback.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "?"}')
    overrides = ["data=rows.jsonl"]
    Run("run", load_recipe("nano_repair_sft", RepairSFTRecipe, overrides)).finish({"steps": 4})
    (tmp_path / "rows.jsonl").unlink()
    command = ["repair", "sft", "nano_repair_sft", *overrides, "--output", "run"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 2
    assert (tmp_path / "run" / "summary.json").is_file(), "a mistake costs no finished run"


def test_the_hosts_have_the_objectives_that_check_says() -> None:
    from difference_feedback.trl.objective import TRL_OBJECTIVES
    from difference_feedback.verl.translate import _ESTIMATOR

    assert {host: set(names) for host, names in HOST_OBJECTIVES.items()} == {
        "trl": set(TRL_OBJECTIVES),
        "verl": set(_ESTIMATOR),
    }


@pytest.mark.parametrize("num_repairs", [0, 1, 2])
@pytest.mark.parametrize("weights", ["mask", "ones", "random"])
@pytest.mark.parametrize("regroup", [True, False])
def test_a_recipe_knows_as_the_trainer_does_whether_it_needs_repairs(
    num_repairs: int, weights: str, regroup: bool, tmp_path: Path
) -> None:
    from difference_feedback.trl import DFGRPOConfig

    trl = {"num_repairs": num_repairs, "weights": weights, "regroup": regroup, "sibling_repairs": num_repairs == 0}
    config = DFGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **trl)
    assert TrainRecipe.model_validate({"trl": trl}).needs_repairer == config.needs_repairer


@pytest.mark.parametrize("weights", DRAFT_SCORES)
@pytest.mark.parametrize("num_repairs", [{}, {"num_repairs": 0}])
def test_a_recipe_knows_as_the_trainer_does_that_answers_are_scored(
    weights: str, num_repairs: dict[str, int], tmp_path: Path
) -> None:
    from difference_feedback.trl import DFGRPOConfig

    trl = {"weights": weights, "regroup": False} | num_repairs
    config = DFGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **trl)
    recipe = TrainRecipe.model_validate({"trl": trl})
    assert (
        (recipe.scores_drafts, recipe.needs_repairer) == (config.scores_drafts, config.needs_repairer) == (True, True)
    )
    assert not TrainRecipe.model_validate({"trl": trl, "method": "grpo"}).needs_repairer


TRAINED = {"repair_model": "oracle"}


@pytest.mark.parametrize("kind", [TrainRecipe, RepairRLRecipe])
def test_trl_s_vllm_is_looked_for_before_a_model_is_loaded(kind, monkeypatch):
    values = TRAINED if kind is TrainRecipe else {}
    colocated = kind.model_validate(values | {"trl": {"use_vllm": True}})
    monkeypatch.setattr("difference_feedback.runs.check.is_installed", lambda module: module != "vllm")
    with pytest.raises(ConfigError, match=r"trl\.use_vllm.*pip install"):
        check(colocated)
    check(kind.model_validate(values | {"trl": {"use_vllm": False}}))
    monkeypatch.setattr("difference_feedback.runs.check.is_installed", lambda module: True)
    check(colocated)


def test_trl_s_vllm_server_must_answer(monkeypatch, openai_server):
    monkeypatch.setattr("difference_feedback.runs.check.is_installed", lambda module: True)
    base = openai_server.url.removesuffix("/v1")
    port = int(base.rsplit(":", 1)[1])

    def recipe(**trl):
        return TrainRecipe.model_validate(TRAINED | {"trl": {"use_vllm": True, "vllm_mode": "server"} | trl})

    check(recipe(vllm_server_base_url=base))
    check(recipe(vllm_server_port=port))
    for places, key in (
        ({"vllm_server_base_url": "http://127.0.0.1:9"}, "trl.vllm_server_base_url"),
        ({"vllm_server_port": 9}, "trl.vllm_server_host and vllm_server_port"),
        ({"vllm_server_base_url": "127.0.0.1:9"}, "trl.vllm_server_base_url"),
    ):
        with pytest.raises(ConfigError, match=key):
            check(recipe(**places))


@pytest.mark.parametrize("key", ["oracle_right", "oracle_clean"])
def test_flaws_belong_to_the_oracle(key):
    check(TrainRecipe(repair_model="oracle", repairs={key: 0.5}))
    with pytest.raises(ConfigError, match=f"repairs.{key}"):
        check(TrainRecipe(repair_model="blind_rewriter", repairs={key: 0.5}))
