"""A model's folder whose weights were cut off or are missing is one sentence, before anything is loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import INDEX, WEIGHTS, check_model

TENSOR = {"w": np.zeros((64, 64), np.float32)}


def saved(folder: Path, *names: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in names:
        save_file(TENSOR, folder / name)
    return folder


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_weights_that_were_cut_off_are_named(tmp_path: Path, share: float) -> None:
    folder = saved(tmp_path / "policy", "model.safetensors")
    check_model(str(folder))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=rf"repair_model: {folder}: model.safetensors is damaged .*again") as raised:
        check_model(str(folder), "repair_model")
    assert "\n" not in str(raised.value)


def test_a_missing_part_of_several_is_named(tmp_path: Path) -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = saved(tmp_path / "policy", *parts)
    with pytest.raises(ConfigError, match=INDEX):  # it is written last
        check_model(str(folder))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": parts[0], "b": parts[1]}}))
    check_model(str(folder))
    (folder / parts[1]).unlink()
    with pytest.raises(ConfigError, match=parts[1]):
        check_model(str(folder))
    (folder / INDEX).write_text('{"weight_map": ')
    with pytest.raises(ConfigError, match=INDEX):
        check_model(str(folder))


def test_an_adapter_s_weights_are_read_as_well(tmp_path: Path) -> None:
    folder = saved(tmp_path / "adapter", WEIGHTS)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "nano"}))
    check_model(str(folder))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ConfigError, match=WEIGHTS):
        check_model(str(folder))
