"""Micro-batches without an image pass verl's own forward pass, and the vision tower takes part in the backward pass."""

import pytest
import torch

pytest.importorskip("verl", reason="verl has an environment of its own")
pytestmark = pytest.mark.verl


def test_rows_without_an_image_are_embedded_as_text() -> None:
    from verl.models.transformers import qwen2_vl

    from difference_feedback.models.load import load_model
    from difference_feedback.verl import blank_pictures

    assert qwen2_vl._get_input_embeds is blank_pictures.input_embeds
    model, processor = load_model("nano")
    ids = torch.tensor([processor.tokenizer("count the red dots .")["input_ids"]])
    embeds, mask = qwen2_vl._get_input_embeds(model.model, ids, torch.ones_like(ids))
    assert torch.equal(embeds, model.get_input_embeddings()(ids))
    assert torch.equal(mask, torch.ones_like(ids))
    embeds.square().sum().backward()
    gradients = [parameter.grad for parameter in model.model.visual.parameters()]
    assert gradients
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
