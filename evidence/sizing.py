"""Memory and time of the large recipes, computed from the models' sizes. Nothing here was measured on a GPU.

The sizes are those of the published configurations (config.json of each model on the Hugging Face Hub); the parameters
are counted by building the model class on torch's meta device. `ASSUMED` holds what has to be assumed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, InternVLConfig, Qwen2_5_VLConfig, Qwen3VLConfig

GB = 1e9
ASSUMED = {
    "prompt": 1300,  # tokens; an image that the recipes keep has up to 1280 (of InternVL: 3,328)
    "answer": 500,  # tokens, on average
    "wrong": 0.5,  # share of the answers
    "decode": 2000.0 * 8e9,  # tokens a second of an engine on one GPU, times the parameters
    "flops": 989e12,  # of one H100 in bfloat16, by its data sheet
    "use": 0.35,  # of these, in an update
}


def _qwen2_5(hidden: int, intermediate: int, layers: int, heads: int, key_value: int, vision: int) -> Qwen2_5_VLConfig:
    text = {"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers}
    text |= {"num_attention_heads": heads, "num_key_value_heads": key_value, "vocab_size": 152064}
    eyes = {"depth": 32, "hidden_size": 1280, "intermediate_size": vision, "num_heads": 16, "out_hidden_size": hidden}
    return Qwen2_5_VLConfig(
        text_config=text | {"tie_word_embeddings": False}, vision_config=eyes, tie_word_embeddings=False
    )


_QWEN3_8B = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
_QWEN3_8B |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
CONFIGS: dict[str, Any] = {
    "Qwen2.5-VL-7B": _qwen2_5(3584, 18944, 28, 28, 4, 3420),
    "Qwen2.5-VL-32B": _qwen2_5(5120, 27648, 64, 40, 8, 3456),
    "Qwen2.5-VL-72B": _qwen2_5(8192, 29568, 80, 64, 8, 3456),
    "Qwen3-VL-8B": Qwen3VLConfig(
        text_config=_QWEN3_8B,
        vision_config={
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
            "num_position_embeddings": 2304,
        },
        tie_word_embeddings=False,
    ),
    "InternVL3.5-8B": InternVLConfig(
        text_config=_QWEN3_8B | {"model_type": "qwen3", "tie_word_embeddings": False},
        vision_config={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
        tie_word_embeddings=False,
    ),
}


def parameters(name: str) -> int:
    """Parameters of a model, vision tower and embeddings included."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(CONFIGS[name])
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Layout:
    """How a run uses its GPUs, of 80 GB each."""

    model: str
    gpus: int
    answers: int
    """Of one training step, over all GPUs."""
    engine: float
    """Share of each GPU that the rollout engine takes; it sleeps during the update."""
    repairs: float
    """Share of each GPU that the repair model's server takes."""
    server_gpus: int = 0
    """The server's own GPUs, where it has none of the run's."""
    prompt: int = 1300
    """Tokens, of which 1,280 are the largest image that the recipes keep."""
    row_tokens: int = 2048
    """Longest answer; a micro-batch has one row."""

    def memory(self) -> dict[str, float]:
        """GB on each GPU."""
        text = CONFIGS[self.model].get_text_config()
        tokens = self.row_tokens + self.prompt
        sharded = 16 * parameters(self.model) / self.gpus
        gathered = 2 * 2 * text.vocab_size * text.hidden_size  # the embedding and the head, in bfloat16
        kept = 2 * tokens * text.hidden_size * text.num_hidden_layers  # a layer's input each: checkpointing
        logits = 2 * 4 * self.row_tokens * text.vocab_size  # in float32, with their gradient
        update = (sharded + gathered + kept + logits) / GB + 80 * self.repairs
        sampling = (sharded / GB) + 80 * (self.engine + self.repairs)
        return {"state": sharded / GB, "update": update, "sampling": sampling}

    def seconds(self) -> dict[str, float]:
        """Of one training step. An update reads wrong answers and repairs: a forward pass for the old
        log-probabilities where they are needed, and three times that, and one more for checkpointing, for the step."""
        repaired = ASSUMED["wrong"] * self.answers
        decode = ASSUMED["decode"] / parameters(self.model)
        operations = 8 * parameters(self.model) * 2 * repaired * (self.prompt + ASSUMED["answer"])
        return {
            "rollouts": self.answers * ASSUMED["answer"] / (decode * self.gpus),
            "repairs": 2 * repaired * ASSUMED["answer"] / (decode * (self.server_gpus or self.gpus)),
            "update": operations / (ASSUMED["use"] * ASSUMED["flops"] * self.gpus),
        }


LAYOUTS = {
    "qwen2_5_vl_7b_df_gspo": Layout("Qwen2.5-VL-7B", 8, 128 * 8, 0.3, 0.3),
    "qwen3_vl_8b_df_gspo": Layout("Qwen3-VL-8B", 8, 128 * 8, 0.3, 0.3),
    "internvl3_5_8b_df_grpo": Layout("InternVL3.5-8B", 8, 512 * 8, 0.3, 0.3, prompt=3400),
    "qwen2_5_vl_32b_df_gspo": Layout("Qwen2.5-VL-32B", 32, 128 * 8, 0.35, 0.0, server_gpus=4),
}


def sizing_table() -> str:
    """The table of docs/run_on_gpus.md."""
    lines = [
        "| recipe | parameters | GPUs | weights, gradients, optimiser | peak while sampling | peak in the update "
        "| rollouts | repairs | update |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, layout in LAYOUTS.items():
        memory, seconds = layout.memory(), layout.seconds()
        lines.append(
            f"| `{name}` | {parameters(layout.model) / GB:.2f} B | {layout.gpus} x 80 GB | {memory['state']:.0f} GB "
            f"| {memory['sampling']:.0f} GB | {memory['update']:.0f} GB "
            f"| {seconds['rollouts']:.0f} s | {seconds['repairs']:.0f} s | {seconds['update']:.0f} s |"
        )
    return "\n".join(lines)
