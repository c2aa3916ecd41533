"""The policy gradient on the same answers, weighted and not: how noisy is it, and does it point where labels push?

    python evidence/gradients.py [--groups 24] [--questions 24]
    python evidence/gradients.py --repairer runs/repair_sft/model --label "a trained model's repairs"

From the base, `--groups` batches of answers are sampled to one fixed set of questions. On each of them the gradient of
the loss is taken by every method; nothing is updated. Reported are the cosine with the supervised gradient (the mean
over every right answer to those questions, in every form) of one batch's gradient and of their mean, and the noise: the
sum of the coordinates' variances over resampled answers, by the squared norm of the mean, whose own noise is taken off.
It is the number of batches to average until signal and noise are equal. [the gradient noise scale, arXiv 1812.06162]
Results go to evidence/results/gradients.json, and `python evidence/build.py` makes the table from that file.
"""

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from difference_feedback.bench.supervised import SupervisedExample, collate
from difference_feedback.judges.questions import reward_functions, training_data
from difference_feedback.models.load import load_model
from difference_feedback.policy.train import host_config, load_repairer
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.trl import DFGRPOTrainer
from difference_feedback.world import correct_answers, sample_problems, to_dataset
from gradient_noise import cosine, flat_gradient, noise_figures
from study import Kept

ARMS: dict[str, list[str]] = {
    "GRPO": ["trl.weights=ones", "trl.regroup=false"],
    "weights off": ["trl.weights=ones"],
    "DF-GRPO": [],
    "random tokens, same density": ["trl.weights=random"],
    "inverted masks": ["trl.weights=inverted"],
    "wrong side only": ["trl.weights=wrong_only"],
    "repaired side only": ["trl.weights=repair_only"],
}


def trainer_of(changes: list[str], model: Any, processor: Any, repairer: str, folder: Path) -> DFGRPOTrainer:
    """The trainer of one method on the shared model, as `train` would make it."""
    common = [f"repair_model={repairer}", "trl.num_repairs=1", "trl.max_steps=1", "problems=48", "seed=7"]
    recipe = load_recipe("nano_df_grpo", TrainRecipe, [*common, *changes])
    config = host_config(recipe, folder / "checkpoints")
    dataset, grader = training_data(recipe)
    return DFGRPOTrainer(
        model=model,
        reward_funcs=reward_functions(grader),
        args=config,
        train_dataset=dataset,
        processing_class=processor,
        repairer=load_repairer(recipe, config, model, processor),
    )


def gradient_of(trainer: DFGRPOTrainer, rows: list[dict[str, Any]], seed: int) -> torch.Tensor | None:
    """The gradient on answers sampled with `seed`; None for a batch without a pair. The model is left as it was."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    torch.manual_seed(seed)
    batch = trainer._generate_and_score_completions([dict(row) for row in rows])
    trainer._compute_loss(trainer.model, batch).backward()
    gradient = flat_gradient(trainer.model)
    return gradient if bool(gradient.any()) else None


def supervised_gradient(model: Any, processor: Any, problems: list[Any]) -> torch.Tensor:
    """Of the cross-entropy of every right answer, in every form."""
    examples = [SupervisedExample(p, p.prompt, answer) for p in problems for answer in correct_answers(p)]
    model.zero_grad()
    model.eval()(**collate(processor, examples)).loss.backward()
    return flat_gradient(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=24, help="batches of answers")
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--model", default="nano", help="the policy at which gradients are taken")
    parser.add_argument("--repairer", default="oracle", help="who repairs: oracle, reference, nano or a folder")
    parser.add_argument("--label", default="the oracle's repairs", help="what the results are kept as")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(options.model)
    problems = sample_problems("rl", 48, 7)[: options.questions]
    target = supervised_gradient(model, processor, problems)
    rows = [dict(row) for row in to_dataset(problems) for _ in range(8)]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(ARMS.items()):
            trainer = trainer_of(changes, model, processor, options.repairer, Path(folder) / str(number))
            gradients = [gradient_of(trainer, rows, seed) for seed in islice(range(10**6), options.groups)]
            kept = torch.stack([gradient for gradient in gradients if gradient is not None])
            # Gradients of a loss: both are walked down, so what agrees has a positive cosine.
            figures[name] = noise_figures(kept) | {
                "cosine_one_batch": float(torch.stack([cosine(g, target) for g in kept]).mean()),
                "cosine_mean": float(cosine(kept.mean(dim=0), target)),
            }
            if figures[name]["noise_scale"] == float("inf"):
                figures[name]["noise_scale"] = None
            print(name, json.dumps(figures[name]), flush=True)
    kept_settings = {"batches": options.groups, "questions": options.questions, "answers": 8 * options.questions}
    Kept().add("gradients", options.label, {"settings": kept_settings, "figures": figures})


if __name__ == "__main__":
    main()
