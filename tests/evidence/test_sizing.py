"""The computed sizes: parameters against the published ones, memory by hand, and every layout within its GPUs."""

import dataclasses

import pytest

import sizing
from difference_feedback.method.settings import PairSettings
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe

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


@pytest.mark.parametrize("name", sizing.LAYOUTS)
def test_recipes_have_the_layouts_that_are_computed(name: str) -> None:
    layout, recipe = sizing.LAYOUTS[name], load_recipe(name, TrainRecipe)
    trl = recipe.trl
    answers = trl["per_device_train_batch_size"] * layout.gpus * trl["gradient_accumulation_steps"]
    assert trl["generation_batch_size"] == answers == layout.answers, "one update on each batch"
    assert trl["vllm_gpu_memory_utilization"] == layout.engine
    assert trl["max_completion_length"] == layout.row_tokens
    endpoint = recipe.repairs.endpoint
    assert endpoint is not None
    if endpoint.serve is not None:
        assert endpoint.serve.options["gpu-memory-utilization"] == layout.repairs
    else:
        assert (layout.repairs, layout.server_gpus) == (0.0, endpoint.billed_gpus)
    room = min(trl["vllm_max_model_length"], 8192)
    assert recipe.max_prompt_length is not None
    assert recipe.max_prompt_length + trl["max_completion_length"] <= room


@pytest.mark.parametrize(
    "name", ["qwen2_5_vl_7b_df_gspo", "qwen2_5_vl_32b_df_gspo", "internvl3_5_8b_df_grpo"], ids=lambda name: name
)
def test_the_recipe_without_difference_feedback_is_otherwise_the_same(name: str) -> None:
    weighted, plain = (load_recipe(recipe, TrainRecipe).model_dump() for recipe in (name, name.replace("_df", "")))
    own = {field.name for field in dataclasses.fields(PairSettings)} | {"answer_column"}
    weighted["trl"] = {key: value for key, value in weighted["trl"].items() if key not in own}
    assert {key for key in weighted if weighted[key] != plain[key]} == {"method", "repairs"}
