"""A nano VLM with random weights, livelier than at initialisation: its answers vary with what it is shown."""

import pytest
import torch

from difference_feedback import nano


def lively_model():
    model, processor = nano.build(seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval(), processor


@pytest.fixture
def nano_model():
    """A fresh model and processor: tests may train it."""
    return lively_model()


@pytest.fixture(scope="session")
def frozen():
    """A model and processor that tests share and leave as they are."""
    return lively_model()
