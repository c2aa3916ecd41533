"""The nano VLM: the real Qwen2.5-VL classes, configured so small that a laptop's processor trains it in minutes."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from difference_feedback.world import caption, correct_answers, sample_problems
from difference_feedback.world.scans import CELL
from difference_feedback.world.tokenizer import VISION_TOKENS, train_tokenizer

SHIPPED = Path(__file__).parent / "shipped_base"
CAPTION_PROMPT = "describe the image ."
_PATCH = CELL // 2
# About 1/sqrt(hidden). The usual 0.02 suits widths in the thousands; at this width it learns slowly.
_INITIAL_SCALE = 0.08


def build(seed: int = 0) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """A nano VLM with random weights, about 0.66 M parameters in float32, and its processor."""
    processor = build_processor()
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_config(processor.tokenizer))
    model.generation_config.update(
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
        suppress_tokens=processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS)),
    )
    return model, processor


def build_processor() -> Qwen2_5_VLProcessor:
    """The processor: Qwen2-VL's image processor, and a tokenizer trained on the tasks' own wording."""
    problems = sample_problems("warm", 1200, seed=0)
    texts = [
        text
        for p in problems
        for text in (CAPTION_PROMPT, p.question, *correct_answers(p), caption(p), " draft : x reference : x repair :")
    ]
    tokenizer = train_tokenizer(texts)
    sizes = {"shortest_edge": CELL * CELL, "longest_edge": 64 * CELL * CELL}
    vision: dict[str, Any] = {"patch_size": _PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": sizes}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**vision),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**vision),
        chat_template=tokenizer.chat_template,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in VISION_TOKENS}
    hidden = 96
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "initializer_range": _INITIAL_SCALE,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "initializer_range": _INITIAL_SCALE,
        "out_hidden_size": hidden,
        "patch_size": _PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 8 * _PATCH,
        "fullatt_block_indexes": [1],
    }
    whole: dict[str, Any] = {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "initializer_range": _INITIAL_SCALE,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return Qwen2_5_VLConfig(**whole)


def load_base(
    path: str | Path = SHIPPED, dtype: str = "float32"
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The warm-started base in evaluation mode, and its processor: the shipped one, or one made by `build_base`."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(path, use_safetensors=True, dtype=dtype)
    return model.eval(), Qwen2_5_VLProcessor.from_pretrained(path)
