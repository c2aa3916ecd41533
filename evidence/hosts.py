"""The same nano run by TRL and by verl, and PPO against DF-PPO on verl: the results behind docs/hosts.md.

    python evidence/hosts.py runs/hosts --verl-python .venv-verl/bin/python --seeds 0 1

Every cell (method, host, seed) is a folder that is kept; a finished cell is not run again. Runs under TRL have one
thread; those under verl the CPU harness of tests/verl, whose rollout engine answers one request at a time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "evidence" / "results" / "hosts.json"
PROMPTS, ANSWERS, RATE, TEST_PROBLEMS = 4, 8, 1e-4, 1500
CELLS = ("GRPO, TRL", "GRPO, verl", "DF-GRPO, TRL", "DF-GRPO, verl", "PPO, verl", "DF-PPO, verl")
STAGES = {"gen": "rollout", "old_log_prob": "old log-probs", "update_actor": "update", "update_critic": "critic"}


def verl_cell(cell: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Runs in verl's environment."""
    sys.path.insert(0, str(ROOT / "tests" / "verl"))
    import runs

    from difference_feedback.verl.problems import write_questions
    from difference_feedback.world import sample_problems

    data = folder.parent / f"problems_{seed}.parquet"
    if not data.is_file():
        write_questions(data, sample_problems("rl", 1000, seed), "embedded")
    method = cell.split(",")[0]
    estimator, mode = ("gae", "token-mean") if "PPO" in method else ("grpo", "seq-mean-token-mean")
    changes = [
        *(f"data.train_files={data}", f"actor_rollout_ref.rollout.seed={seed}", f"algorithm.adv_estimator={estimator}"),
        *(f"actor_rollout_ref.actor.optim.lr={RATE}", "actor_rollout_ref.actor.optim.weight_decay=0.0"),
        *(f"actor_rollout_ref.actor.loss_agg_mode={mode}", f"critic.optim.lr={10 * RATE}"),
        *("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32", "critic.ppo_micro_batch_size_per_gpu=32"),
        *("actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=32", f"trainer.save_freq={steps}"),
        *("critic.forward_micro_batch_size_per_gpu=32", f"data.seed={seed}"),
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,hf_model]",
    ]
    if method.startswith("DF"):
        repairs = {"repair_model": "nano", "style": "nano", "num_repairs": 1, "reference_seed": seed}
        changes += [f"+difference_feedback.{name}={value}" for name, value in repairs.items()]
    runs.STEP_LIMIT = 3000
    rows, _ = runs.run(
        "difference_feedback.verl.main_df", folder, *changes, prompts=PROMPTS, answers=ANSWERS, steps=steps
    )
    return {
        "rewards": [row.get("df/reward_of_answers", row["critic/score/mean"]) for row in rows],
        "step_seconds": statistics.median(row["timing_s/step"] for row in rows),
        "stages": {
            name: statistics.median(row[f"timing_s/{stage}"] for row in rows)
            for stage, name in STAGES.items()
            if f"timing_s/{stage}" in rows[0]
        },
        "model": str(folder / "checkpoints" / f"global_step_{steps}" / "actor" / "huggingface"),
    }


def trl_cell(cell: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    import torch

    from difference_feedback.policy.train import train
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import TrainRecipe

    torch.set_num_threads(1)
    name = "nano_df_grpo" if cell.startswith("DF") else "nano_grpo"
    changes = [
        *(f"seed={seed}", f"trl.max_steps={steps}", f"trl.learning_rate={RATE}", "trl.save_steps=10000"),
        *("evaluation.problems=12", "evaluation.every=10000", "problems=1000"),
        f"trl.per_device_train_batch_size={PROMPTS * ANSWERS}",
    ]
    if cell.startswith("DF"):
        changes += ["repair_model=nano", "trl.num_repairs=1"]
    recipe = load_recipe(name, TrainRecipe, changes)
    run = Run(folder / "run", recipe)
    start = time.monotonic()
    if not run.finished:
        train(recipe, run)
    rows = [row for row in run.metrics() if "reward" in row]
    cost = run.summary().get("cost", {}).get("wall", {})
    return {
        "rewards": [row["reward"] for row in rows],
        "step_seconds": (time.monotonic() - start) / steps,
        "stages": cost.get("stages", {}),
        "model": str(run.model_path),
    }


def run_cell(cell: str, seed: int, steps: int, folder: Path, verl_python: str) -> dict[str, Any]:
    """One cell in a process of its own, its memory watched from here; then its model on held-out problems."""
    result = folder / "result.json"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        python = verl_python if cell.endswith("verl") else sys.executable
        command = [python, __file__, str(folder), "--cell", cell, "--seeds", str(seed), "--steps", str(steps)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with (folder / "cell.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            peak = _watch_memory(process)
        if process.returncode:
            raise SystemExit(f"{cell}, seed {seed}: see {folder / 'cell.log'}")
        row = json.loads((folder / "cell.json").read_text())
        row |= {"cell": cell, "seed": seed, "peak_gib": peak[0] / 2**30, "accuracy": _accuracy(row.pop("model"))}
        result.write_text(json.dumps(row))
    return json.loads(result.read_text())


def _accuracy(model: str) -> dict[str, Any]:
    from transformers import Qwen2_5_VLForConditionalGeneration

    from difference_feedback.policy.evaluation import evaluate
    from difference_feedback.world import sample_problems
    from difference_feedback.world.nano import load_base

    trained = Qwen2_5_VLForConditionalGeneration.from_pretrained(model)
    result = evaluate(trained, load_base()[1], sample_problems("test", TEST_PROBLEMS, 0))
    return {"accuracy": result.accuracy, "interval": list(result.interval)}


def _watch_memory(process: subprocess.Popen[bytes]) -> list[int]:
    """Largest sum of proportional set sizes of a process and its descendants, sampled every two seconds."""
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], sum(_pss(pid) for pid in _descendants(process.pid)))
            time.sleep(2)

    thread = threading.Thread(target=watch)
    thread.start()
    process.wait()
    thread.join()
    return peak


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(entry.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(entry.parent.name))
        except (OSError, IndexError):
            continue
    family, waiting = [], [pid]
    while waiting:
        family.append(waiting.pop())
        waiting += children.get(family[-1], [])
    return family


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/hosts"))
    parser.add_argument("--verl-python", default=".venv-verl/bin/python")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--cell", choices=CELLS, help="run this one here, in this process")
    options = parser.parse_args()
    if options.cell:
        kind = verl_cell if options.cell.endswith("verl") else trl_cell
        result = kind(options.cell, options.seeds[0], options.steps, options.folder.resolve())
        (options.folder / "cell.json").write_text(json.dumps(result))
        return
    rows = []
    for seed in options.seeds:
        for cell in CELLS:
            name = cell.replace(", ", "_")
            rows.append(
                run_cell(
                    cell, seed, options.steps, options.folder.resolve() / f"seed{seed}_{name}", options.verl_python
                )
            )
            print(cell, seed, rows[-1]["accuracy"], f"{rows[-1]['step_seconds']:.1f} s a step", flush=True)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"Results: {RESULTS}. `python evidence/build.py` makes page and picture from them.")


if __name__ == "__main__":
    main()
