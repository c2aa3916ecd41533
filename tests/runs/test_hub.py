"""A finished run's model goes to the hub, privately and without secrets; a hub that fails loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from servers.hub_server import Hub, hub

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.hub import check_hub, model_card
from difference_feedback.runs.recipes import TrainRecipe

TRAIN = (
    *("train", "nano_grpo", "problems=8", "evaluation.problems=4", "trl.max_steps=1", "trl.num_generations=2"),
    *("trl.per_device_train_batch_size=2", "trl.report_to=none", "evaluation.every=0", "push_to_hub=me/my-model"),
)


def command(server: Hub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_secret"}
    words = [sys.executable, "-m", "difference_feedback.cli", *arguments, "--output", str(folder / "run")]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_an_upload_that_fails_keeps_the_run_and_the_same_command_uploads_it(tmp_path: Path) -> None:
    arguments = TRAIN
    with hub() as server:
        server.refuses = 403
        failed = command(server, tmp_path, *arguments)
        assert failed.returncode != 0
        assert "push_to_hub" in failed.stderr
        assert f"hf upload me/my-model {tmp_path / 'run' / 'model'}" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert "hf_secret" not in failed.stderr + failed.stdout
        assert (tmp_path / "run" / "summary.json").is_file(), "the run is finished"
        assert server.files == {}

        server.refuses = 0
        done = command(server, tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert server.private == {"me/my-model": True}
        assert server.tokens == {"Bearer hf_secret"}
        model = tmp_path / "run" / "model"
        for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
            assert server.files[name] == (model / name).read_bytes()
        assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in server.files), "no pickle is uploaded"
        _, about, text = server.files["README.md"].decode().split("---\n", 2)
        assert "difference-feedback" in yaml.safe_load(about)["tags"]
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert f"{summary['accuracy']:.4g}" in text
        assert "trained with Difference Feedback from `nano`" in text

        server.files.clear()
        again = command(server, tmp_path, *arguments)
        assert again.returncode == 0
        assert server.files == {}, "it is uploaded once"


def test_a_card_names_the_base_and_no_server(tmp_path: Path) -> None:
    endpoint = {
        "url": "http://user:word@inner.example/v1",
        "model": "judge",
        "api_key_env": "MY_KEY",
        "cache": "/home/me",
    }
    values = {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "reward": "llm-judge", "judge": {"endpoint": endpoint}}
    recipe = TrainRecipe.model_validate(values | {"system_prompt": "---\n# No heading"})
    run = Run(tmp_path / "my_run", recipe)
    run.finish({"accuracy": 0.51234, "interval": [0.4, 0.6], "steps": 7})
    card = model_card(run)
    for secret in ("inner.example", "word", "MY_KEY", "/home/me"):
        assert secret not in card
    _, about, text = card.split("---\n", 2)
    assert yaml.safe_load(about)["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert "| accuracy | 0.5123 |" in text
    assert "| interval | 0.4 to 0.6 |" in text
    lines = text.split("## Recipe")[1].strip("\n").splitlines()
    shown = yaml.safe_load("\n".join(line[4:] for line in lines))
    assert shown["judge"]["endpoint"]["model"] == "judge"
    assert shown["system_prompt"] == recipe.system_prompt
    assert all(line.startswith("    ") or not line for line in lines), "a recipe's text cannot leave its block"


@pytest.mark.parametrize("name", ["name", "a/b/c", "../b", "a b/c", "owner/", "https://huggingface.co/a/b", "a/b--c"])
def test_a_name_that_is_no_repository_s(name: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        check_hub(name)


def test_an_upload_that_cannot_succeed_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = TrainRecipe.model_validate({"method": "grpo", "push_to_hub": "me/model"})
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    check(recipe)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        check(recipe)
