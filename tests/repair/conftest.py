"""A nano VLM with random weights, livelier than at initialisation: its answers vary with what it is shown."""

import copy

import pytest
import torch

from difference_feedback.world import nano


@pytest.fixture(scope="session")
def frozen():
    """A model and processor that tests share and leave as they are."""
    model, processor = nano.build(seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval(), processor


@pytest.fixture
def nano_model(frozen):
    """A model of the test's own, to train, and the processor."""
    return copy.deepcopy(frozen[0]), frozen[1]
