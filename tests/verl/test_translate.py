"""A `train` recipe as verl's configuration, and its questions as verl's data. Needs neither verl nor Ray."""

import io
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check import check
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.verl.problems import write_questions
from difference_feedback.verl.reward import compute_score
from difference_feedback.verl.settings import VerlSettings
from difference_feedback.verl.translate import overrides
from difference_feedback.world import sample_problems

ACTOR = "actor_rollout_ref.actor"


def translated(name: str, *changes: str) -> dict[str, Any]:
    return overrides(load_recipe(name, TrainRecipe, ["host=verl", *changes]))


def test_the_nano_recipe() -> None:
    settings = translated("nano_df_grpo", "objective=gspo", "trl.root_cause=true", "trl.beta=0.1")
    expected = {
        "algorithm.adv_estimator": "grpo",
        f"{ACTOR}.policy_loss.loss_mode": "gspo",
        f"{ACTOR}.clip_ratio_low": 3e-4,
        f"{ACTOR}.clip_ratio_high": 4e-4,
        f"{ACTOR}.optim.lr": 1e-4,
        f"{ACTOR}.use_kl_loss": True,
        f"{ACTOR}.kl_loss_coef": 0.1,
        "data.train_batch_size": 8,  # prompts of eight answers
        "actor_rollout_ref.rollout.n": 8,
        "data.max_response_length": 64,
        "trainer.total_training_steps": 400,
        "+difference_feedback.num_repairs": 2,
        "+difference_feedback.root_cause": True,
        "+difference_feedback.repair_model": "runs/nano_repair_rl/model",
        "+difference_feedback.style": "nano",
    }
    assert {key: settings.get(key) for key in expected} == expected


def test_without_difference_feedback_there_is_no_block() -> None:
    settings = translated("nano_grpo", "objective=ppo", "verl.trainer.nnodes=2")
    assert not any("difference_feedback" in key for key in settings)
    assert settings["algorithm.adv_estimator"] == "gae"
    assert settings["trainer.nnodes"] == 2


SIZES = ("trl.per_device_train_batch_size=4", "trl.num_generations=8", "verl.trainer.nnodes=2")


@pytest.mark.parametrize(
    ("changes", "batch", "update"),
    [
        (["trl.gradient_accumulation_steps=4"], 128, 128),
        (["trl.gradient_accumulation_steps=4", "trl.generation_batch_size=1024"], 1024, 128),
        (["trl.gradient_accumulation_steps=2", "trl.steps_per_generation=6"], 192, 64),
        (["trl.gradient_accumulation_steps=2", "verl.trainer.nnodes=1"], 32, 32),
    ],
)
def test_sizes_mean_what_they_mean_on_as_many_ranks_of_trl(changes: list[str], batch: int, update: int) -> None:
    """GRPOConfig's own arithmetic: rows of a device, times ranks, times the steps between updates or generations."""
    settings = translated("nano_grpo", *SIZES, "verl.trainer.n_gpus_per_node=4", *changes)
    assert (settings["data.train_batch_size"] * 8, settings[f"{ACTOR}.ppo_mini_batch_size"] * 8) == (batch, update)
    assert settings[f"{ACTOR}.ppo_micro_batch_size_per_gpu"] == 4
    assert settings["trainer.n_gpus_per_node"] == 4


def test_gpus_of_this_machine_unless_the_recipe_has_others() -> None:
    recipe = load_recipe("nano_df_grpo", TrainRecipe, ["host=verl"])
    assert overrides(recipe, gpus=2)["trainer.n_gpus_per_node"] == 2
    with pytest.raises(ConfigError, match=r"no.*GPU|has none.*verl.trainer.n_gpus_per_node"):
        overrides(recipe, gpus=0)
    other = load_recipe("nano_df_grpo", TrainRecipe, ["host=verl", "verl.trainer.n_gpus_per_node=8"])
    assert overrides(other, gpus=0)["trainer.n_gpus_per_node"] == 8


def test_rows_are_packed_only_for_flash_attention() -> None:
    model = "actor_rollout_ref.model"
    for name, packs in (("sdpa", False), ("flash_attention_2", True)):
        settings = translated("nano_grpo", f"attention={name}")
        assert settings[f"+{model}.override_config.attn_implementation"] == name
        assert settings[f"{model}.use_remove_padding"] is packs


def test_places_of_repairs_come_from_the_recipe() -> None:
    settings = translated("nano_df_grpo", "repairs.placement=own", "repairs.replicas=2", "repairs.batch_size=8")
    block = {key: settings[f"+difference_feedback.{key}"] for key in ("placement", "replicas", "batch_size")}
    assert block == {"placement": "own", "replicas": 2, "batch_size": 8}
    with pytest.raises(ConfigError, match=r"repairs.placement is for host: verl"):
        check(load_recipe("nano_df_grpo", TrainRecipe, ["repair_model=nano", "repairs.placement=own"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trl.generation_batch_size=96", "no whole number of updates"),
        ("trl.vllm_mode=colocate", "trl.vllm_mode has no counterpart on verl"),
        ("trl.lr_scheduler_type=polynomial", "verl has constant"),
        ("trl.num_generations=7", "no whole prompts"),
    ],
)
def test_what_verl_cannot_do_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translated("nano_grpo", change)


def test_the_server_of_the_repairs_is_the_recipe_s() -> None:
    recipe = load_recipe("qwen2_5_vl_7b_df_gspo", TrainRecipe, ["repairs.endpoint.serve.speculation=4"])
    assert recipe.repairs.endpoint is not None
    block = recipe.repairs.endpoint.model_dump(mode="json", exclude_none=True)
    assert VerlSettings(via="vllm", endpoint=block).server == recipe.repairs.endpoint


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({}, "sibling_repairs=True"),
        ({"via": "vllm"}, "url"),
        ({"repair_model": "nano", "via": "http"}, "local, endpoint, vllm"),
        ({"repair_model": "nano", "dtype": "int8"}, "float32, bfloat16, float16"),
        ({"repair_model": "nano", "weights": "half"}, "mask, ones"),
        ({"repair_model": "nano", "weights": "log_ratio", "regroup": False}, "host: trl"),
    ],
)
def test_a_block_that_cannot_work_is_refused(changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        VerlSettings(**changes)
    assert remedy in str(error.value)


def test_siblings_alone_need_no_repair_model() -> None:
    block = translated("nano_df_grpo", "repair_model=null", "trl.num_repairs=0", "trl.sibling_repairs=true")
    prefix = "+difference_feedback."
    settings = VerlSettings(**{key.removeprefix(prefix): block[key] for key in block if key.startswith(prefix)})
    assert not settings.needs_repairer


def test_questions_become_rows_and_are_graded(tmp_path: Path) -> None:
    problems = sample_problems("rl", 3, seed=0)
    assert write_questions(tmp_path / "data" / "rows.parquet", problems, "embedded") == 3
    rows = Dataset.from_parquet(str(tmp_path / "data" / "rows.parquet"))
    for row, problem in zip(rows, problems, strict=True):
        assert row["prompt"] == [{"role": "user", "content": "<image>" * len(problem.images) + problem.question}]
        for image, original in zip(row["images"], problem.images, strict=True):
            assert Image.open(io.BytesIO(image["bytes"])).tobytes() == original.tobytes()
            assert image["min_pixels"] <= original.width * original.height, "verl would enlarge it"
        truth = row["reward_model"]["ground_truth"]
        assert compute_score("embedded", f"so it is . answer {truth}", truth)["score"] == 1.0
        assert compute_score("embedded", "so it is . answer never", truth)["score"] == 0.0
    assert compute_score("mine", "The answer is (B).", "B", {"options": ["4", "5"]})["score"] == 1.0
    assert compute_score("mine", "The answer is 4.", "B", {"options": ["4", "5"]})["score"] == 0.0
