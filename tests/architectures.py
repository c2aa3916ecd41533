"""Tiny models of the real classes, with random weights, built offline and saved as a checkpoint is.

Every architecture has its own configuration, processor, image processor, chat template and special tokens; the sizes
alone are not the real ones. The templates that TRL ships are those of the checkpoints. `BUILDERS` names them all.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers as hf
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from trl import chat_template_utils as templates

from difference_feedback.world import correct_answers, sample_problems

HIDDEN, PATCH, SIDE = 32, 14, 56
WORDS = (
    "user assistant model system User Assistant You are a helpful draft reference repair answer right wrong look at the"
)


class Parts(NamedTuple):
    """What a checkpoint holds; `ends` are its generation configuration's ends of an answer."""

    config: Any
    processor: Any
    ends: list[str]
    written: str
    """The one that its chat template puts after an answer."""


LLAVA_TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% endif %}{% endfor %}\
{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

INTERNVL_TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

GLM_TEMPLATE = """\
[gMASK]<sop>
{%- for message in messages %}
<|{{ message['role'] }}|>
{% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for part in message['content'] %}
{%- if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>
{%- elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|assistant|>
{% endif %}"""


@cache
def _texts() -> list[str]:
    problems = sample_problems("warm", 200, seed=0)
    return [WORDS, *(text for p in problems for text in (p.question, *correct_answers(p)))]


def _tokenizer(special: Sequence[str], *, eos: str, pad: str, sentencepiece: bool = False, **named: Any) -> Any:
    """A tokenizer trained on the tasks' words: byte-level as Qwen's and Llama 3's, or SentencePiece as Gemma's."""
    if sentencepiece:
        special = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = []
    else:
        tokenizer = Tokenizer(models.BPE())
        words = pre_tokenizers.Split(Regex(r" ?\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]|\s"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=640, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=pad,
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        **named,
    )


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The language model's sizes."""
    return {
        **{"vocab_size": len(tokenizer), "hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": HIDDEN // 4},
        **{"max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id},
        **{"pad_token_id": tokenizer.pad_token_id},
        **more,
    }


_QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)


def _qwen(kind: str, template: str, vision: dict[str, Any]) -> Parts:
    tokenizer = _tokenizer(_QWEN_TOKENS, eos="<|im_end|>", pad="<|endoftext|>")
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    if kind == "Qwen3VL":
        rope["mrope_interleaved"] = True
    config = getattr(hf, f"{kind}Config")(
        text_config=_text(tokenizer, rope_parameters=rope),
        vision_config=vision | {"patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2},
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    sizes = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 36 * PATCH**2}
    options: dict[str, Any] = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": sizes}
    video = getattr(hf, "Qwen3VLVideoProcessor" if kind == "Qwen3VL" else "Qwen2VLVideoProcessor")
    processor = getattr(hf, f"{kind}Processor")(
        image_processor=hf.Qwen2VLImageProcessor(**options),
        tokenizer=tokenizer,
        video_processor=video(**options),
        chat_template=template,
    )
    return Parts(config, processor, ["<|im_end|>", "<|endoftext|>"], "<|im_end|>")


def qwen2_vl() -> Parts:
    vision = {"depth": 2, "embed_dim": HIDDEN, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2}
    return _qwen("Qwen2VL", templates.qwen2_5_vl_chat_template, vision)


def qwen2_5_vl() -> Parts:
    vision = {"depth": 2, "hidden_size": HIDDEN, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"window_size": 4 * PATCH, "fullatt_block_indexes": [1]}
    return _qwen("Qwen2_5_VL", templates.qwen2_5_vl_chat_template, vision)


def qwen3_vl() -> Parts:
    vision = {"depth": 2, "hidden_size": HIDDEN, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    return _qwen("Qwen3VL", templates.qwen3_vl_chat_template, vision)


def internvl() -> Parts:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    named["video_token"] = "<video>"
    tokenizer = _tokenizer(special, eos="<|im_end|>", pad="<|endoftext|>", extra_special_tokens=named)
    config = hf.InternVLConfig(
        text_config={"model_type": "qwen3", **_text(tokenizer)},
        vision_config={
            **{"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
            **{"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]},
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size=size, min_patches=1, max_patches=4, crop_to_patches=False),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=INTERNVL_TEMPLATE,
    )
    return Parts(config, processor, ["<|im_end|>"], "<|im_end|>")


_IDEFICS_TOKENS = (
    *("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>"),
    *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)),
)
_IDEFICS_VISION = {
    **{"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    **{"image_size": SIDE, "patch_size": PATCH},
}
_IDEFICS_IMAGES = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}


def smolvlm() -> Parts:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *_IDEFICS_TOKENS)
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    named |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    tokenizer = _tokenizer(special, eos="<end_of_utterance>", pad="<|im_end|>", extra_special_tokens=named)
    config = hf.SmolVLMConfig(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config=_IDEFICS_VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    processor = hf.SmolVLMProcessor(
        image_processor=hf.SmolVLMImageProcessor(**_IDEFICS_IMAGES),
        tokenizer=tokenizer,
        video_processor=hf.SmolVLMVideoProcessor(**_IDEFICS_IMAGES, fps=1, num_frames=2),
        image_seq_len=4,
        chat_template=templates.smolvlm_chat_template,
    )
    return Parts(config, processor, ["<end_of_utterance>"], "<end_of_utterance>")


def idefics3() -> Parts:
    special = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", *_IDEFICS_TOKENS)
    tokenizer = _tokenizer(special, eos="<|end_of_text|>", pad="<|end_of_text|>", bos_token="<|begin_of_text|>")
    config = hf.Idefics3Config(
        text_config={"model_type": "llama", **_text(tokenizer, bos_token_id=tokenizer.bos_token_id)},
        vision_config=_IDEFICS_VISION,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    processor = hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(**_IDEFICS_IMAGES),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=templates.idefics3_chat_template,
    )
    ends = ["<|end_of_text|>", "<end_of_utterance>"]
    return Parts(config, processor, ends, "<end_of_utterance>")


def gemma3() -> Parts:
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    special += ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(
        special,
        eos="<eos>",
        pad="<pad>",
        bos_token="<bos>",
        unk_token="<unk>",
        sentencepiece=True,
        extra_special_tokens=named,
    )
    ids = tokenizer.convert_tokens_to_ids
    text = _text(tokenizer, bos_token_id=ids("<bos>"), sliding_window=64, query_pre_attn_scalar=8)
    config = hf.Gemma3Config(
        text_config=text | {"layer_types": ["sliding_attention", "full_attention"]},
        vision_config={
            **{"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
            **{"image_size": SIDE, "patch_size": PATCH, "vision_use_head": False},
        },
        mm_tokens_per_image=4,
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )
    processor = hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=templates.gemma3_chat_template,
    )
    return Parts(config, processor, ["<eos>", "<end_of_turn>"], "<end_of_turn>")


def llava_onevision() -> Parts:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
    tokenizer = _tokenizer(special, eos="<|im_end|>", pad="<|endoftext|>")
    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = hf.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={
            **{"model_type": "siglip_vision_model", "hidden_size": HIDDEN, "num_hidden_layers": 2},
            **{"num_attention_heads": 2, "intermediate_size": 64, "image_size": SIDE, "patch_size": PATCH},
            **{"vision_use_head": False},
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_TEMPLATE,
    )
    return Parts(config, processor, ["<|im_end|>", "<|endoftext|>"], "<|im_end|>")


def glm4v() -> Parts:
    special = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
    special += ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
    special += ("<|image|>", "<|video|>")
    tokenizer = _tokenizer(special, eos="<|endoftext|>", pad="<|endoftext|>")
    ids = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}
    config = hf.Glm4vConfig(
        text_config=_text(tokenizer, rope_parameters=rope),
        vision_config={
            **{"depth": 2, "hidden_size": HIDDEN, "intermediate_size": 64, "num_heads": 2, "image_size": SIDE},
            **{"patch_size": PATCH, "out_hidden_size": HIDDEN, "spatial_merge_size": 2, "temporal_patch_size": 2},
        },
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
    )
    sizes = {"shortest_edge": 2 * (2 * PATCH) ** 2, "longest_edge": 72 * PATCH**2}
    options: dict[str, Any] = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": sizes}
    processor = hf.Glm4vProcessor(
        image_processor=hf.Glm4vImageProcessor(**options),
        tokenizer=tokenizer,
        video_processor=hf.Glm4vVideoProcessor(**options),
        chat_template=GLM_TEMPLATE,
    )
    return Parts(config, processor, ["<|endoftext|>", "<|user|>", "<|observation|>"], "<|user|>")


BUILDERS: dict[str, Callable[[], Parts]] = {
    build.__name__: build
    for build in (*(qwen2_vl, qwen2_5_vl, qwen3_vl, internvl, smolvlm, idefics3, gemma3, llava_onevision, glm4v),)
}


NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "smolvlm" and find_spec("num2words") is None, reason="SmolVLM's processor needs num2words"
        ),
    )
    for name in BUILDERS
]
"""For `pytest.mark.parametrize`."""


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """Build the architecture and save model, processor and generation configuration, as a checkpoint holds them."""
    parts = BUILDERS[name]()
    torch.manual_seed(seed)
    model = hf.AutoModelForImageTextToText.from_config(parts.config)
    with torch.no_grad():  # larger than at initialisation, so that answers vary with what the model sees
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
        model.get_input_embeddings().weight.normal_(std=0.15)
    ids = parts.processor.tokenizer.convert_tokens_to_ids
    ends = [ids(token) for token in parts.ends]
    model.generation_config.update(
        eos_token_id=ends if len(ends) > 1 else ends[0], pad_token_id=parts.processor.tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    parts.processor.save_pretrained(folder)
    return folder


def picture(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A picture of coarse random squares, so that no two are alike after scaling."""
    noise = torch.randint(0, 256, (2, 2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(noise.numpy()).resize((width, height), Image.Resampling.NEAREST)


def asking(question: str, images: int) -> list[dict[str, Any]]:
    """A user's turn with that many image parts."""
    return [{"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": question}]}]


def mixed_rows(counts: Sequence[int] = (1, 2, 0, 3)) -> tuple[list[list[dict[str, Any]]], list[list[Image.Image]]]:
    """Prompts of mixed length with that many images each, of mixed sizes."""
    questions = ["how many ?", "which of them is the right answer to the question ?", "x", "the sum of 3 and 4 is"]
    prompts = [asking(questions[i % 4], count) for i, count in enumerate(counts)]
    sizes = [(SIDE, SIDE), (84, 56), (56, 112)]
    return prompts, [[picture(10 * i + j, *sizes[(i + j) % 3]) for j in range(count)] for i, count in enumerate(counts)]
