"""Launch a run of verl on the CPU, on the nano base and the embedded tasks, and read what it logged."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import difference_feedback.verl
import difference_feedback.world
from difference_feedback.verl.problems import write_questions
from difference_feedback.world import sample_problems

HERE = Path(__file__).parent
PACKAGE = Path(difference_feedback.verl.__file__).parent
BASE = Path(difference_feedback.world.__file__).parent / "shipped_base"
MAX_TOKENS = 48
STEP_LIMIT = 600  # seconds a run may take


def settings(folder: Path, *changes: str, prompts: int = 4, answers: int = 4, steps: int = 2) -> list[str]:
    """verl's configuration for a small run on one CPU rank. `changes` come last and win."""
    data = folder.parent / "problems.parquet"
    if not data.is_file():
        write_questions(data, sample_problems("rl", 64, seed=3), "embedded")
    model = "actor_rollout_ref.model"
    critic = "critic"
    return [
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"data.train_batch_size={prompts}",
        "data.max_prompt_length=256",
        f"data.max_response_length={MAX_TOKENS}",
        "data.dataloader_num_workers=0",
        "data.val_batch_size=4",
        "data.val_max_samples=4",
        "data.filter_overlong_prompts=False",
        "data.shuffle=False",
        f"{model}.path={BASE}",
        f"{model}.external_lib=verl_on_cpu.workers",
        f"{model}.use_remove_padding=False",
        f"{model}.enable_gradient_checkpointing=False",
        f"+{model}.override_config.attn_implementation=sdpa",
        "actor_rollout_ref.actor.strategy=fsdp2",
        "actor_rollout_ref.actor.fsdp_config.strategy=fsdp2",
        "actor_rollout_ref.actor.fsdp_config.dtype=float32",
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32",
        "actor_rollout_ref.actor.use_torch_compile=False",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={prompts}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        "actor_rollout_ref.rollout.name=cpu",
        f"actor_rollout_ref.rollout.n={answers}",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "actor_rollout_ref.rollout.dtype=float32",
        "actor_rollout_ref.rollout.calculate_log_probs=True",
        "actor_rollout_ref.rollout.free_cache_engine=False",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8",
        f"{critic}.model.path={BASE}",
        f"{critic}.model.use_remove_padding=False",
        f"{critic}.model.enable_gradient_checkpointing=False",
        f"+{critic}.model.override_config.attn_implementation=sdpa",
        f"{critic}.strategy=fsdp2",
        f"{critic}.fsdp.strategy=fsdp2",
        f"{critic}.ppo_mini_batch_size={prompts}",
        f"{critic}.ppo_micro_batch_size_per_gpu=8",
        "reward.num_workers=1",
        f"reward.custom_reward_function.path={PACKAGE / 'reward.py'}",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "trainer.device=cpu",
        "trainer.n_gpus_per_node=1",
        "trainer.nnodes=1",
        "trainer.logger=[console,file]",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        f"trainer.total_training_steps={steps}",
        "trainer.total_epochs=10",
        "trainer.resume_mode=disable",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
        "+ray_kwargs.ray_init.num_gpus=1",
        "+ray_kwargs.ray_init.object_store_memory=200000000",
        "+ray_kwargs.ray_init.include_dashboard=False",
        f"+ray_kwargs.ray_init._temp_dir=/tmp/ray_{os.getpid()}",
        "ray_kwargs.ray_init.num_cpus=16",
        *changes,
    ]


def run(module: str, folder: Path, *changes: str, **sizes: int) -> tuple[list[dict[str, Any]], str]:
    """Run `python -m module` with `settings`. Returns the metrics of each step and the whole log.

    Fails with the end of the log when the run fails, reports an error in it, or takes longer than its limit.
    """
    text = execute([sys.executable, "-m", module, *settings(folder, *changes, **sizes)], folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["data"] | {"step": row["step"]} for row in rows], text


def execute(command: list[str], folder: Path) -> str:
    """Run a command in the harness's environment, within the limit of time, and return its log."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        **{"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda", "VERL_USE_EXTERNAL_MODULES": "verl_on_cpu"},
        **{"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TORCHDYNAMO_DISABLE": "1"},
        **{"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "HF_HUB_OFFLINE": "1", "HYDRA_FULL_ERROR": "1"},
        **{"GLOO_SOCKET_IFNAME": "lo", "VERL_ON_CPU_MAX_TOKENS": str(MAX_TOKENS)},
        **{"PYTHONPATH": os.pathsep.join([str(PACKAGE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")])},
        **{"PYTHONHASHSEED": "0", "VERL_FILE_LOGGER_PATH": str(folder / "metrics.jsonl")},
    }
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            **{"env": environment, "stdout": output, "stderr": subprocess.STDOUT, "cwd": folder},
            start_new_session=True,
        )
        try:
            code: int | str = process.wait(STEP_LIMIT)
        except subprocess.TimeoutExpired:
            code = f"no end within {STEP_LIMIT} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # Ray's processes are of its group
    text = log.read_text(errors="replace")
    assert code == 0, f"{code}\n{text[-6000:]}"
    assert "Error in _run_prompt" not in text, text[-6000:]
    return text
