"""How far a policy has moved from where it started."""

from collections.abc import Sequence
from typing import Any

import torch

from difference_feedback.bench.supervised import SupervisedExample, collate
from difference_feedback.models.generate import answer_questions
from difference_feedback.world import Problem


@torch.no_grad()
def kl_from_start(
    policy: Any, start: Any, processor: Any, problems: Sequence[Problem], *, max_new_tokens: int = 64, seed: int = 0
) -> float:
    """`KL(policy || start)` in nats a token, over one answer of the policy to each problem, sampled at temperature 1.

    Exact in each token's distribution, an estimate in the answers.
    """
    answers = answer_questions(policy, processor, problems, max_new_tokens=max_new_tokens, batch_size=100, seed=seed)
    total, tokens = 0.0, 0
    examples = [
        SupervisedExample(problem, problem.prompt, answer.text)
        for problem, (answer,) in zip(problems, answers, strict=True)
    ]
    for first in range(0, len(examples), 100):
        inputs = collate(processor, examples[first : first + 100])
        labels = inputs.pop("labels")
        predicting = labels[:, 1:] != -100
        here, there = (
            torch.log_softmax(model.eval()(**inputs).logits[:, :-1][predicting].double(), dim=-1)
            for model in (policy, start)
        )
        total += float((here.exp() * (here - there)).sum())
        tokens += int(predicting.sum())
    return total / max(tokens, 1)
