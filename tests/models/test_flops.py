"""Operations are counted where they happen: by hand on small layers, and on the nano model."""

import torch
from torch import nn

from difference_feedback.models.flops import FlopMeter, Work, uncounted
from difference_feedback.models.generate import generate
from difference_feedback.world import sample_problems
from difference_feedback.world.nano import load_base


def test_a_linear_layer_and_a_convolution_by_hand() -> None:
    linear, conv = nn.Linear(3, 5), nn.Conv2d(4, 6, kernel_size=2, groups=2)
    with FlopMeter() as meter:
        linear(torch.zeros(7, 3))  # gradients on, so a backward pass follows
        with torch.no_grad():
            conv(torch.zeros(1, 4, 3, 3))
    assert meter.work.forward == 2 * 7 * 3 * 5 + 2 * (6 * 2 * 2) * (2 * 2 * 2)
    assert meter.work.backward == 2 * (2 * 7 * 3 * 5)
    linear(torch.zeros(7, 3))
    assert meter.work.forward == 2 * 7 * 3 * 5 + 2 * (6 * 2 * 2) * (2 * 2 * 2)


def test_what_is_not_to_count_does_not() -> None:
    linear = nn.Linear(2, 2)
    with FlopMeter() as meter:
        with uncounted():
            with uncounted():
                linear(torch.zeros(1, 2))
            linear(torch.zeros(1, 2))
        assert meter.work == Work()
        linear(torch.zeros(1, 2))
    assert meter.work.forward == 8


def test_generated_tokens_of_the_nano_model() -> None:
    model, processor = load_base()
    problems = sample_problems("test", 6, seed=1)
    with FlopMeter() as meter:
        answers = generate(
            model,
            processor,
            [p.prompt for p in problems],
            [p.images for p in problems],
            max_new_tokens=5,
            num_samples=2,
        )
    assert meter.work.generated_tokens == 6 * 2 * max(len(ids) for samples in answers for ids in samples)
    assert meter.work.backward == 0
    assert meter.work.forward > 2 * 0.2e6 * meter.work.generated_tokens
