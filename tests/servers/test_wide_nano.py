"""The nano base that vLLM serves computes what the shipped one does."""

import torch
from servers.wide_nano import widened

from difference_feedback import world
from difference_feedback.world.nano import load_base


def test_the_widened_model_computes_the_same():
    model, processor = load_base()
    wide = widened(model)
    problems = world.sample_problems("rl", 4, 0)
    prompts = [processor.apply_chat_template(p.prompt, add_generation_prompt=True, tokenize=False) for p in problems]
    texts = [prompt + world.correct_answers(p)[0] for prompt, p in zip(prompts, problems, strict=True)]
    images = [list(p.images) for p in problems]
    inputs = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        expected, result = model(**inputs).logits, wide(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(result[real], expected[real], atol=1e-3, rtol=0)
    text = wide.config.text_config
    assert text.hidden_size // text.num_attention_heads == 32
