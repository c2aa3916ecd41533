"""Servers that a run starts: the command, who starts and who waits, and that none outlives its run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError
from servers.openai_server import serve_model

from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.runs import watchdog
from difference_feedback.runs.check import check
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.sections import Endpoint, RepairEndpoint
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.runs.serving import free_url, served_models, server_command, server_environment, serving

PROGRAM = Path(__file__).parents[1] / "servers" / "listing_server.py"
ASK = [ChatRequest([{"role": "user", "content": "Hello"}])]


def endpoint(*words, model="m", serve=None, kind=Endpoint, **values):
    serve = {"command": [sys.executable, str(PROGRAM), *words], "startup_seconds": 20} | (serve or {})
    return kind.model_validate({"url": free_url(), "model": model, "serve": serve} | values)


def started(log):
    return json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch, tmp_path):
    """The watchdog is a program of its own, so its patience is changed in a copy."""
    source = Path(watchdog.__file__).read_text().replace("STOP_SECONDS = 20.0", "STOP_SECONDS = 0.5")
    (tmp_path / "watchdog.py").write_text(source)
    monkeypatch.setattr(watchdog, "__file__", str(tmp_path / "watchdog.py"))


def test_it_serves_meanwhile_and_leaves_no_process(tmp_path):
    server = endpoint("--seconds=0.7")
    with serving({"judge.endpoint": server}, tmp_path):
        assert served_models(server) == ["m"]
        seen = started(tmp_path / "vllm_judge.log")
        assert is_alive(seen["pid"])
        assert is_alive(seen["child"])
        assert os.getpgid(seen["pid"]) != os.getpgid(0)
    assert not is_alive(seen["pid"])
    assert not is_alive(seen["child"])
    assert served_models(server) is None


def test_an_error_in_the_run_ends_it_too(tmp_path):
    server = endpoint()
    with pytest.raises(ZeroDivisionError), serving({"audit.endpoint": server}, tmp_path):
        1 / 0  # noqa: B018
    assert not is_alive(started(tmp_path / "vllm_audit.log")["child"])


OWNER = """
import signal, sys, time
from pathlib import Path
from difference_feedback.runs import serving, watchdog
from difference_feedback.runs.sections import Endpoint
watchdog.__file__ = sys.argv[3]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in a shell's background inherits that it is ignored
with serving.serving({"repairs.endpoint": Endpoint.model_validate_json(sys.argv[1])}, Path(sys.argv[2])):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_takes_its_server_along(tmp_path, number):
    server = endpoint()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, server.model_dump_json(), str(tmp_path), watchdog.__file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert owner.stdout.readline() == b"up\n"
        seen = started(tmp_path / "vllm_repairs.log")
        owner.send_signal(number)
        owner.wait(20)
        assert wait_for(lambda: not is_alive(seen["pid"]) and not is_alive(seen["child"]))
    finally:
        with suppress(ProcessLookupError):
            owner.kill()
        owner.stdout.close()


def test_one_that_ends_at_the_start_shows_the_end_of_its_log(tmp_path):
    with (
        pytest.raises(DifferenceFeedbackError, match=r"judge\.endpoint\.serve.*status 3") as error,
        serving({"judge.endpoint": endpoint("--fail")}, tmp_path),
    ):
        pass
    assert "no room on this device" in str(error.value)
    assert str(tmp_path / "vllm_judge.log") in str(error.value)


def test_one_that_is_too_slow_is_stopped(tmp_path):
    slow = endpoint("--seconds=60", serve={"startup_seconds": 1.0})
    with pytest.raises(DifferenceFeedbackError, match="startup_seconds"), serving({"judge.endpoint": slow}, tmp_path):
        pass
    assert not is_alive(started(tmp_path / "vllm_judge.log")["pid"])


def test_requests_to_one_that_has_died_end_the_run(tmp_path):
    server = endpoint(retries=0)
    with serving({"judge.endpoint": server}, tmp_path):
        seen = started(tmp_path / "vllm_judge.log")
        os.kill(seen["pid"], signal.SIGKILL)
        assert wait_for(lambda: not is_alive(seen["child"]))
        with pytest.raises(DifferenceFeedbackError, match=r"run's own server.*ended"):
            ChatClient(server).ask(ASK)
    assert ChatClient(server).ask(ASK)[0].texts is None, "of a server that is not the run's, requests just fail"


def test_a_server_that_runs_is_used_or_refused(tmp_path, frozen):
    with serve_model(*frozen, name="theirs") as running:
        there = endpoint("--fail", model="theirs", url=running.url)
        with serving({"judge.endpoint": there, "repairs.endpoint": there}, tmp_path):
            assert not list(tmp_path.glob("*.log"))
        assert served_models(there) == ["theirs"]
        other = endpoint("--fail", model="ours", url=running.url)
        with pytest.raises(ConfigError, match=r"judge\.endpoint\.url.*theirs.*ours"):
            serving({"judge.endpoint": other}, tmp_path).__enter__()


def test_two_keys_share_a_server(tmp_path):
    server = endpoint()
    with serving({"judge.endpoint": server, "audit.endpoint": server}, tmp_path):
        assert [log.name for log in tmp_path.glob("*.log")] == ["vllm_judge.log"]


def test_other_ranks_of_a_machine_wait(tmp_path, monkeypatch):
    server = endpoint()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(DifferenceFeedbackError, match="startup_seconds"),
        serving({"judge.endpoint": endpoint(serve={"startup_seconds": 0.5})}, tmp_path),
    ):
        pass
    assert not list(tmp_path.glob("*.log"))
    monkeypatch.setenv("LOCAL_RANK", "0")
    with serving({"judge.endpoint": server}, tmp_path):
        monkeypatch.setenv("LOCAL_RANK", "1")
        with serving({"judge.endpoint": server}, tmp_path):
            pass
        assert served_models(server) == ["m"], "only who started it stops it"


def test_the_server_s_environment_has_its_gpus_its_key_and_nothing_of_the_launcher(monkeypatch, tmp_path):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    server = endpoint(serve={"gpus": "6,7"}, api_key_env="JUDGE_KEY")
    with serving({"judge.endpoint": server}, tmp_path):
        seen = started(tmp_path / "vllm_judge.log")
        assert served_models(server) == ["m"]
        with pytest.raises(ConfigError, match="401"):
            served_models(server.model_copy(update={"api_key_env": None}))
    assert seen["environment"]["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert seen["environment"]["VLLM_API_KEY"] == "secret"
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP"} & set(
        seen["environment"]
    )
    assert not any("secret" in word for word in seen["words"])
    bare = server_environment(endpoint())
    assert bare["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "VLLM_API_KEY" not in bare


def test_the_words_of_vllm_s_command_line():
    options = {"tensor-parallel-size": 2, "enforce_eager": True, "enable-prefix-caching": False, "seed": None}
    serve = {"command": "vllm serve --uvicorn-log-level warning", "options": options | {"mm": {"image": 1}}}
    words = server_command(endpoint(model="org/big", url="http://127.0.0.1:8123/v1", serve=serve))
    assert words[1:] == [
        *["serve", "org/big", "--uvicorn-log-level", "warning", "--host=127.0.0.1", "--port=8123"],
        *["--generation-config=vllm", "--served-model-name=org/big", "--tensor-parallel-size=2", "--enforce-eager"],
        *["--no-enable-prefix-caching", '--mm={"image": 1}'],
    ]
    named = server_command(endpoint(model="judge", serve={"command": ["python", "-m", "api"], "model": "org/big"}))
    assert "--model=org/big" in named
    assert "--served-model-name=judge" in named


def proposals(words):
    """What the words of a command line say of speculation; None where they say nothing."""
    [*values] = [word.partition("=")[2] for word in words if word.startswith("--speculative-config")]
    return json.loads(values[0]) if values else None


def test_a_server_of_repairs_speculates_from_its_prompt():
    said = proposals(server_command(endpoint(kind=RepairEndpoint)))
    assert (said["method"], said["num_speculative_tokens"]) == ("ngram", 8)
    assert 1 < said["prompt_lookup_min"] < said["prompt_lookup_max"]
    more = server_command(endpoint(kind=RepairEndpoint, serve={"speculation": 3, "options": {"max-num-seqs": 8}}))
    assert proposals(more)["num_speculative_tokens"] == 3
    assert "--max-num-seqs=8" in more


@pytest.mark.parametrize(
    "serve",
    [{"speculation": 0}, {"options": {"spec_method": "suffix"}}, {"command": "vllm serve --spec-method suffix"}],
)
def test_speculation_is_off_where_a_setting_or_an_option_of_vllm_says_so(serve):
    assert proposals(server_command(endpoint(kind=RepairEndpoint, serve=serve))) is None


def test_an_option_of_vllm_stands_in_for_the_setting():
    theirs = {"method": "suffix", "num_speculative_tokens": 4}
    words = server_command(endpoint(kind=RepairEndpoint, serve={"options": {"speculative_config": theirs}}))
    assert proposals(words) == theirs


def test_of_a_recipe_s_servers_only_that_of_the_repairs_speculates():
    server = {"url": "http://127.0.0.1:8001/v1", "model": "m", "serve": {}}
    other = server | {"url": "http://127.0.0.1:8002/v1"}
    values = {"reward": "llm-judge", "judge": {"endpoint": other}, "repairs": {"via": "vllm", "endpoint": server}}
    commands = {key: server_command(one) for key, one in endpoints_of(TrainRecipe.model_validate(values)).items()}
    assert proposals(commands["repairs.endpoint"]) is not None
    assert proposals(commands["judge.endpoint"]) is None
    with pytest.raises(ValidationError, match="speculation"):
        TrainRecipe.model_validate(values | {"judge": {"endpoint": other | {"serve": {"speculation": 8}}}})


def test_a_server_that_repairs_share_with_a_judge_does_not_speculate(tmp_path):
    repairs = endpoint(kind=RepairEndpoint)
    with serving({"repairs.endpoint": repairs, "judge.endpoint": endpoint(url=repairs.url)}, tmp_path):
        assert proposals(started(tmp_path / "vllm_judge.log")["words"]) is None
    assert not (tmp_path / "vllm_repairs.log").exists()


def test_an_adapter_is_served_on_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "r": 24}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    words = server_command(endpoint(model="repair", serve={"command": "vllm serve", "model": str(tmp_path)}))
    assert words[2] == "org/base"
    assert {"--enable-lora", "--max-lora-rank=32", f"--lora-modules=repair={tmp_path}"} <= set(words)
    assert not any(word.startswith("--served-model-name") for word in words)


EVALUATE = {"kind": "evaluate", "evaluation": {"endpoint": {"url": "http://127.0.0.1:8009/v1"}}}


@pytest.mark.parametrize(
    ("serve", "changes", "place"),
    [
        ({"command": "no-such-vllm serve"}, {}, r"evaluation\.endpoint\.serve\.command.*no-such-vllm"),
        ({"options": {"host": "0.0.0.0"}}, {}, r"serve\.options\.host"),
        ({"options": {"trust_remote_code": True}}, {}, r"serve\.options\.trust_remote_code"),
        ({"options": {"api-key": "x"}}, {}, r"serve\.options\.api-key.*api_key_env"),
        ({}, {"url": "http://10.0.0.7:8009/v1"}, r"evaluation\.endpoint\.url"),
        ({}, {"url": "http://127.0.0.1/v1"}, r"evaluation\.endpoint\.url.*PORT"),
        ({"model": "./no-folder"}, {}, r"evaluation\.endpoint\.serve\.model"),
        ({}, {}, "nano base"),
    ],
)
def test_what_cannot_be_served_is_found_before_anything_starts(serve, changes, place):
    server = EVALUATE["evaluation"]["endpoint"] | {"serve": {"command": [sys.executable]} | serve} | changes
    recipe = EvaluateRecipe.model_validate(EVALUATE | {"evaluation": {"endpoint": server}})
    with pytest.raises(ConfigError, match=place):
        check(recipe)


def test_a_server_to_be_started_need_not_answer_yet():
    server = EVALUATE["evaluation"]["endpoint"] | {"serve": {"command": [sys.executable], "model": "org/wide"}}
    check(EvaluateRecipe.model_validate(EVALUATE | {"evaluation": {"endpoint": server}}))
    with pytest.raises(ConfigError, match=r"evaluation\.endpoint\.url.*cannot be reached"):
        check(EvaluateRecipe.model_validate(EVALUATE))


def test_the_servers_that_a_run_asks():
    server = {"url": "http://127.0.0.1:8009/v1"}
    named = server | {"model": "m"}
    evaluation = {"evaluation": {"endpoint": server}}
    judged = {"reward": "llm-judge", "judge": {"endpoint": named}}
    evaluate = EvaluateRecipe.model_validate({"model": "runs/x/model"} | evaluation | judged)
    assert {key: e.model for key, e in endpoints_of(evaluate).items()} == {
        "judge.endpoint": "m",
        "evaluation.endpoint": "runs/x/model",
    }
    rl = RepairRLRecipe.model_validate({"policy": "org/p", "model": "org/m", "audit": {"endpoint": named}} | evaluation)
    assert {key: e.model for key, e in endpoints_of(rl).items()} == {"evaluation.endpoint": "org/p"}, (
        "not audited by it"
    )
    assert endpoints_of(RepairSFTRecipe.model_validate({"data": "x.jsonl"} | evaluation)) == {}
    train = TrainRecipe.model_validate({"repairs": {"via": "vllm", "endpoint": named}} | judged)
    assert set(endpoints_of(train)) == {"repairs.endpoint", "judge.endpoint"}
    assert set(endpoints_of(train.model_copy(update={"method": "grpo"}))) == {"judge.endpoint"}
    with pytest.raises(ConfigError, match=r"evaluation\.endpoint"):
        check(TrainRecipe.model_validate({"repair_model": "oracle"} | evaluation))
