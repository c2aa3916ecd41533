"""Runs that use a real vLLM: one that they start themselves, one that runs already, and TRL's in its own process.

`make test-vllm` starts the server that runs already. See `test_vllm_server.py` for what is asked of a server alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from servers.vllm_server import FOLDER, MODEL, PYTHON, SETTINGS, URL, serve_settings

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.judges.questions import EMBEDDED, draft_questions
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.models.adapters import with_lora
from difference_feedback.models.generate import answer_questions
from difference_feedback.models.load import load_model
from difference_feedback.policy.evaluation import evaluate_recipe
from difference_feedback.policy.repair_check import measure_repairs
from difference_feedback.repair.rl_data import rl_drafts
from difference_feedback.repair.sft import train_sft
from difference_feedback.report.repair_check import finish_check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.runs.sections import Endpoint, Lora, PolicyEndpoint, TextOnly
from difference_feedback.runs.serving import free_url, served_models, serving
from difference_feedback.world import sample_problems
from difference_feedback.world.nano import load_base

pytestmark = pytest.mark.vllm
LIMITS = {"max_new_tokens": 40, "problems": 100}


@pytest.fixture(autouse=True)
def _needs_vllm():
    if URL not in os.environ:
        pytest.skip(f"left out: vLLM ({URL} is not set; run `make test-vllm`)")


@pytest.fixture
def running():
    """The endpoint of the server that runs already, as a recipe gives it."""
    return {"url": os.environ[URL], "model": MODEL, "retries": 0}


def serve():
    return serve_settings(os.environ[PYTHON], os.environ[FOLDER])


def vllm_processes(folder):
    """Ids of the processes whose command line names `folder` as vLLM's model."""
    ids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"--model={folder}".encode() in words:
            ids.append(int(path.parent.name))
    return ids


def test_greedy_answers_are_those_of_transformers(running):
    """Every token, the end included. Two engines round differently, so a few answers in a hundred may part."""
    model, processor = load_base()
    problems = sample_problems("test", LIMITS["problems"], 9000)
    served = ServedModel(PolicyEndpoint.model_validate(running), "nano")
    remote, local = (
        answer_questions(m, processor, problems, max_new_tokens=40, temperature=0.0, batch_size=50)
        for m in (served, model)
    )
    same = sum(a == b for a, b in zip(remote, local, strict=True)) / len(problems)
    print(f"greedy answers that are equal token by token: {same:.1%}")
    assert same >= 0.97


def test_an_evaluation_starts_its_server_and_stops_it(tmp_path, running):
    """And the judge, behind the server that runs already, is used as it is."""
    url = free_url()
    evaluation = LIMITS | {"endpoint": {"url": url, "serve": serve()}}
    judge = {"endpoint": running | {"serve": serve(), "max_tokens": 32}}
    values = {"evaluation": evaluation | {"problems": 20}, "judge": judge, "reward": "llm-judge"}
    recipe = EvaluateRecipe.model_validate(values)
    run = Run(tmp_path / "run", recipe)
    summary = evaluate_recipe(recipe, run)
    assert summary["problems"] + summary["unjudged"] == 20
    answers = [row["response"] for row in read_rows(run.folder / "predictions.jsonl")]
    local = EvaluateRecipe.model_validate({"evaluation": LIMITS | {"problems": 20}})
    other = Run(tmp_path / "local", local)
    evaluate_recipe(local, other)
    assert answers == [row["response"] for row in read_rows(other.folder / "predictions.jsonl")]
    assert [log.name for log in run.folder.glob("*.log")] == ["vllm_evaluation.log"]
    assert served_models(Endpoint(url=url, model=MODEL)) is None
    assert served_models(Endpoint.model_validate(running)) == [MODEL]


def test_a_repair_model_and_a_policy_behind_vllm_measure_as_in_this_process(tmp_path, running):
    """Sampled answers and repairs differ, so the shares agree within their intervals, and the policy errs as often."""
    small = {"drafts": 60, "blank_image": False}
    repairs = {"via": "vllm", "style": "nano", "endpoint": running}
    served = {"sampling": {"endpoint": running}, "repair_model": None, "repairs": repairs}
    summaries = []
    for name, values in (("served", served), ("local", {"repair_model": "nano"})):
        recipe = RepairCheckRecipe.model_validate(small | values)
        run = Run(tmp_path / name, recipe)
        measure_repairs(recipe, run)
        summaries.append(finish_check(recipe, run))
    remote, local = summaries
    assert remote["drafts"] == local["drafts"] == 60
    assert remote["clean_by"] == "truth"
    for share in ("right", "usable", "clean", "p_err"):
        low, high = remote[share]["interval"]
        assert low <= local[share]["interval"][1], share
        assert local[share]["interval"][0] <= high, share


def test_a_model_that_vllm_cannot_serve_is_reported_with_the_end_of_its_log(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "no-such-model"}')
    settings = serve() | {"model": str(tmp_path / "broken")}
    endpoint = Endpoint.model_validate({"url": free_url(), "model": "m", "serve": settings})
    with pytest.raises(DifferenceFeedbackError) as error, serving({"judge.endpoint": endpoint}, tmp_path):
        pass
    assert "judge.endpoint.serve" in str(error.value)
    assert "no-such-model" in str(error.value)


OWNER = """
import sys
from pathlib import Path
from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.serving import serving
with serving({"judge.endpoint": Endpoint.model_validate_json(sys.argv[1])}, Path(sys.argv[2])):
    print("up", flush=True)
    sys.stdin.read()
"""


def test_an_adapter_is_served_and_a_killed_run_leaves_no_vllm_behind(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.symlink_to(os.environ[FOLDER])  # a name of its own, to tell the processes by
    model, processor = load_model(str(base))
    model = with_lora(model, Lora(), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.03 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(adapter)
    settings = {"url": free_url(), "model": "repair", "serve": serve() | {"model": str(adapter)}}
    endpoint = PolicyEndpoint.model_validate(settings)
    words = [sys.executable, "-c", OWNER, endpoint.model_dump_json(), str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"up\n"
        problems = sample_problems("test", 12, 0)
        models = (ServedModel(endpoint, str(adapter)), load_model(str(adapter))[0], load_model(str(base))[0])
        remote, local, without = (
            answer_questions(m, processor, problems, max_new_tokens=30, temperature=0.0) for m in models
        )
        assert remote == local
        assert remote != without
        groups = {os.getpgid(pid) for pid in vllm_processes(base)}
        assert len(groups) == 2, "the server's, and the one that watches it"
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(group_exists, groups)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(group_exists, groups))
    assert served_models(endpoint) is None


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_drafts_and_the_filter_by_text_alone(running):
    served = ServedModel(PolicyEndpoint.model_validate(running), "nano")
    questions, rule = draft_questions(RepairRLRecipe()), EMBEDDED
    supply = rl_drafts(
        served, served.processor, 24, questions=questions, grade=rule.is_right, text_only=TextOnly(samples=2)
    )
    tokenizer = served.processor.tokenizer
    for wrong in supply.drafts:
        assert tokenizer.decode(wrong.draft.token_ids, skip_special_tokens=True) == wrong.draft.text
        assert rule.is_right(wrong.problem, wrong.reference)
        assert not rule.is_right(wrong.problem, wrong.draft.text)
    assert len({wrong.draft.text for wrong in supply.drafts}) > 12


def test_a_repair_model_is_trained_on_drafts_of_a_server(running, tmp_path):
    trl = {"max_steps": 1, "per_device_train_batch_size": 4, "gradient_checkpointing": False}
    evaluation = {"problems": 8, "max_new_tokens": 40, "endpoint": running}
    recipe = RepairSFTRecipe.model_validate({"drafts": 8, "evaluation": evaluation, "trl": trl})
    run = Run(tmp_path / "run", recipe)
    summary = train_sft(recipe, run)
    assert (summary["examples"], summary["updates"]) == (8, 1)


def colocated(which, folder):
    """Two steps of TRL with vLLM in its process; see `colocated.py`."""
    here = Path(__file__).parent
    paths = [str(here.parents[1] / "src"), str(here.parent), SETTINGS["PYTHONPATH"]]
    words = [os.environ[PYTHON], "-m", "servers.colocated", which, os.environ[FOLDER], str(folder)]
    environment = os.environ | SETTINGS | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"log"')))
    result["steps"] = [row for row in result["log"] if "reward" in row]
    return result


@pytest.mark.parametrize("trained", ["policy", "adapter"])
def test_trl_s_own_vllm_samples_from_the_policy_of_every_step(tmp_path, trained):
    """The log-probabilities of the sampled tokens are the trainer's, before and after an update.

    So vLLM has read the same prompts and images, and got the new weights, also those of an adapter: the updates change
    the log-probabilities by more than 0.1. Tolerance: float32 in two implementations.
    """
    result = colocated(trained, tmp_path)
    assert len(result["steps"]) == 2
    for step in result["steps"]:
        assert step["df/pairs"] > 0
        assert step["sampling/sampling_logp_difference/max"] < 5e-3
        assert step["sampling/importance_sampling_ratio/min"] > 0.99
    assert result["moved"] > 0.1


def test_the_repair_model_is_trained_with_trl_s_own_vllm(tmp_path):
    """With tokens that are never to be sampled, which vLLM has no setting for, and the test without the image."""
    result = colocated("repair", tmp_path)
    assert len(result["steps"]) == 2
    assert all("repair/blind_correct" in step for step in result["steps"])
    assert result["moved"] > 1e-4
    sampled = {token for ids in result["sampled"] for token in ids}
    assert sampled.isdisjoint(result["never"])
    assert len(sampled) > 10
