"""Lets torchvision from PyPI be imported beside torch for the CPU: on the path of vLLM's processes, see `vllm_server`.

PyPI's torchvision is built for CUDA. Its extension does not load there, and without the extension it stops at once:
it describes operators that nobody has declared. Image processors need none of them, so declaring them is enough.
"""

from importlib.metadata import version

import torch

if not version("torchvision").endswith("+cpu"):
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
