"""verl's recipes: they compose with verl's own configuration, and what would be wrong is rejected before Ray starts."""

from pathlib import Path
from typing import Any

import pytest
from runs import BASE

from difference_feedback.errors import ConfigError
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.verl.launch import as_words
from difference_feedback.verl.settings import pool_of, settings_of
from difference_feedback.verl.translate import overrides

verl = pytest.importorskip("verl", reason="verl has an environment of its own")
hydra = pytest.importorskip("hydra")
pytestmark = pytest.mark.verl
RECIPES = Path(__file__).parents[2] / "recipes" / "verl"
VERLS = str(Path(verl.__file__).parent / "trainer" / "config")
BLOCK = ["+difference_feedback.repair_model=nano"]


def compose(name: str, overrides: list[str], folder: str | None = None) -> Any:
    with hydra.initialize_config_dir(version_base=None, config_dir=folder or str(RECIPES)):
        return hydra.compose(config_name=name, overrides=overrides)


def plain(*changes: str) -> Any:
    return compose("ppo_trainer", [*BLOCK, *changes], VERLS)


MODELS = {
    # recipe: (model, GPUs)
    "qwen2_5_vl_7b_df_gspo": ("Qwen/Qwen2.5-VL-7B-Instruct", 8),
    "qwen2_5_vl_32b_df_gspo": ("Qwen/Qwen2.5-VL-32B-Instruct", 32),
    "qwen3_vl_8b_df_gspo": ("Qwen/Qwen3-VL-8B-Instruct", 8),
}


def test_every_recipe_is_here() -> None:
    assert {path.stem for path in RECIPES.iterdir()} == {*MODELS, "paper_gspo"}


@pytest.mark.parametrize("name", MODELS)
def test_the_papers_settings(name: str) -> None:
    config = compose(name, [])
    settings = settings_of(config)
    assert settings is not None
    assert (settings.reward_threshold, settings.num_repairs) == (1.0, 2)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert config.data.train_batch_size == actor.ppo_mini_batch_size == 128
    assert (rollout.n, rollout.temperature) == (8, 0.7)
    assert actor.policy_loss.loss_mode == "gspo"
    assert (config.actor_rollout_ref.model.path, pool_of(config)) == MODELS[name]


@pytest.mark.parametrize("enabled", ["true", "false"])
@pytest.mark.parametrize("name", MODELS)
def test_recipes_pass_verls_own_checks(name: str, enabled: str) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = compose(name, [f"difference_feedback.enabled={enabled}"])
    assert (settings_of(config) is None) == (enabled == "false")
    validate_config(config, need_reference_policy(config), need_critic(config))
    gpus, rollout = pool_of(config), config.actor_rollout_ref.rollout
    assert gpus % rollout.tensor_model_parallel_size == 0
    assert config.data.train_batch_size * rollout.n % gpus == 0
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert longest <= config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu


@pytest.mark.parametrize("changes", [[], ["attention=sdpa", "method=grpo", "repair_model=null"]])
def test_a_translated_train_recipe_passes_verls_own_checks(changes: list[str]) -> None:
    """With nothing under `verl:`, on a machine of eight GPUs."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    names = ["host=verl", "repair_model=nano", "trl.per_device_train_batch_size=4", "trl.gradient_accumulation_steps=4"]
    recipe = load_recipe("nano_df_grpo", TrainRecipe, [*names, *changes])
    config = compose("ppo_trainer", as_words(overrides(recipe, gpus=8)), VERLS)
    settings = settings_of(config)
    assert (settings is None) == bool(changes)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert (config.data.train_batch_size, pool_of(config)) == (4 * 4 * 8 // 8, 8)
    assert config.actor_rollout_ref.rollout.name == "vllm"


def test_a_model_without_a_processor_in_verl_is_refused(tmp_path: Path) -> None:
    """verl takes InternVL for a model without images."""
    import transformers as hf

    from difference_feedback.verl.trainer import DFTrainer

    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = hf.AutoTokenizer.from_pretrained(BASE, extra_special_tokens={**names, "video_token": "<video>"})
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(), tokenizer, hf.InternVLVideoProcessor(), chat_template=tokenizer.chat_template
    )
    processor.save_pretrained(tmp_path)
    hf.InternVLConfig(architectures=["InternVLForConditionalGeneration"]).save_pretrained(tmp_path)
    trainer = DFTrainer.__new__(DFTrainer)
    trainer.config = plain("algorithm.adv_estimator=grpo", f"actor_rollout_ref.model.path={tmp_path}")
    with pytest.raises(ConfigError, match=r"model.path.*internvl.*host: trl"):
        trainer._init_tokenizer()
    trainer.config.actor_rollout_ref.model.path = str(BASE)
    trainer._init_tokenizer()


def test_plain_verl_without_the_block() -> None:
    assert settings_of(plain("+difference_feedback.enabled=false")) is None


def test_the_block_may_use_the_names_of_the_release_before() -> None:
    settings = settings_of(plain("algorithm.adv_estimator=grpo", "+difference_feedback.gate=ones"))
    assert settings is not None
    assert settings.weights == "ones"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+difference_feedback.num_repair=3", "Did you mean 'num_repairs'"),
        ("+difference_feedback.sigma=wide", "difference_feedback.sigma: got 'wide'"),
        ("algorithm.adv_estimator=rloo", "verified with grpo"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=clip_cov", "verified with vanilla and gspo"),
        ("trainer.v1.trainer_mode=separate_async", "use sync"),
        ("algorithm.use_kl_in_reward=true", "use actor.use_kl_loss"),
        ("algorithm.rollout_correction.bypass_mode=true", "no log-probabilities of repairs"),
    ],
)
def test_what_cannot_be_right_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(plain("algorithm.adv_estimator=grpo", override))


ONE = "+difference_feedback.repaired_ratio=one"
PLAUSIBLE = "+difference_feedback.min_probability=0.05"
SIZES = ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"]


def test_where_the_two_ratios_differ_one_is_refused() -> None:
    """With one update a batch the actor's old log-probabilities are those of a repair's first update."""
    grpo = "algorithm.adv_estimator=grpo"
    assert settings_of(plain(grpo, ONE, *SIZES)).repaired_ratio == "one"  # type: ignore[union-attr]
    for more in ("actor_rollout_ref.actor.ppo_epochs=2", "data.train_batch_size=16"):
        with pytest.raises(ConfigError, match=r"repaired_ratio='one' with 2 updates.*use 'old'"):
            settings_of(plain(grpo, ONE, *SIZES, more))


def test_with_a_critic_the_group_stays() -> None:
    config = plain("algorithm.adv_estimator=gae")
    settings = settings_of(config)
    assert settings is not None
    assert not settings.regroup
    with pytest.raises(ConfigError, match=r"min_probability=0.05.*use 0"):
        settings_of(plain("algorithm.adv_estimator=gae", PLAUSIBLE))
    assert settings_of(plain("algorithm.adv_estimator=grpo", PLAUSIBLE)).min_probability == 0.05  # type: ignore[union-attr]


def test_a_train_recipe_s_own_keys_reach_verl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards in files with awkward names, the longest prompt, trackers and the system message, through Hydra."""
    from datasets import Dataset
    from verl.trainer.ppo.reward import get_custom_reward_fn

    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.recipes import TrainRecipe
    from difference_feedback.verl.launch import arguments

    (tmp_path / "it's, (mine)=1").mkdir()
    own = tmp_path / "it's, (mine)=1" / "rewards.py"
    own.write_text(
        "def short(completions, completion_ids, **_):\n    return [float(len(ids) < 9) for ids in completion_ids]\n"
    )
    monkeypatch.chdir(own.parent)
    values = {
        "host": "verl",
        "method": "df-grpo",
        "repair_model": "nano",
        "problems": 4,
        "evaluation": {"problems": 3},
        "reward": {"embedded": 0.8, "rewards.py:short": 0.2},
        "max_prompt_length": 200,
        "system_prompt": "look closely",
        "report_to": ["tensorboard"],
        "verl": {"trainer": {"n_gpus_per_node": 1}},
    }
    run = Run(Path("läufe, a~b") / "it's lr=1e-6: {x}", TrainRecipe.model_validate(values))
    import verl.trainer

    words = arguments(run.recipe, run)  # type: ignore[arg-type]
    config = compose("ppo_trainer", words, str(Path(verl.trainer.__file__).parent / "config"))
    assert config.data.max_prompt_length == 200
    assert list(config.trainer.logger) == ["console", "file", "tensorboard"]
    assert config.trainer.experiment_name == "it's lr=1e-6: {x}"
    assert config.trainer.default_local_dir == str(own.parent / run.checkpoints)
    assert Path(config.data.train_files).is_file()
    settings = settings_of(config)
    assert settings is not None
    assert settings.reward_threshold == 1.0
    monkeypatch.chdir(tmp_path)  # a worker's folder is another
    reward = get_custom_reward_fn(config)
    assert reward is not None
    for row in Dataset.from_parquet(str(config.data.train_files)):
        assert row["prompt"][0] == {"role": "system", "content": "look closely"}
        truth = row["reward_model"]["ground_truth"]
        wanted = {f"answer {truth}": (1.0, 1.0), "so it is . " * 9 + f"answer {truth}": (0.8, 0.0), "none": (0.2, 0.0)}
        for text, (score, right) in wanted.items():
            extra = {**row["extra_info"], "num_turns": None, "rollout_reward_scores": {}}
            graded = reward(data_source=row["data_source"], solution_str=text, ground_truth=truth, extra_info=extra)
            assert graded["score"] == pytest.approx(score)
            assert graded["acc"] == right
