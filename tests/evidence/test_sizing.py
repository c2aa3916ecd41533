"""The computed sizes: parameters against the published ones, memory by hand, and every layout within its GPUs."""

import pytest

import sizing

PUBLISHED = {
    "Qwen2.5-VL-7B": 8_292_166_656,
    "Qwen2.5-VL-32B": 33_452_718_336,
    "Qwen3-VL-8B": 8_767_123_696,
}
"""Parameters by the index of each checkpoint's safetensors on the hub."""


@pytest.mark.parametrize("model", PUBLISHED)
def test_parameters_are_those_of_the_checkpoints(model: str) -> None:
    assert sizing.parameters(model) == PUBLISHED[model]


def test_state_is_sixteen_bytes_a_parameter_over_the_gpus() -> None:
    for name, layout in sizing.LAYOUTS.items():
        memory = layout.memory()
        assert memory["state"] == pytest.approx(16 * sizing.parameters(layout.model) / layout.gpus / 1e9), name
        assert max(memory.values()) < 80, name
