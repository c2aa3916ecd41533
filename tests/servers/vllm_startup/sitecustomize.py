"""Mends two things that hinder vLLM on the CPU: on the path of vLLM's processes, see `vllm_server`.

PyPI's torchvision is built for CUDA. Its extension does not load beside torch for the CPU, and without the extension it
stops at once: it describes operators that nobody has declared. Image processors need none of them, so declaring them is
enough.

With speculation, vLLM 0.32 spreads each request's temperature and top-p over its proposals. Without Triton it spreads
them into a copy, and samples by what stands in the memory that nobody wrote (vllm#55005).
"""

import importlib.abc
import importlib.util
import sys
from importlib.metadata import version

import torch

if not version("torchvision").endswith("+cpu"):
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def expand(output, values, ends, replace_from, replace_to, MAX_NUM_TOKENS=None):
    """Row `i` of `values` to all places of `output` before `ends[i]`, from the row before on."""
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    output.copy_(torch.where(values == replace_from, replace_to, values).repeat_interleave(counts))


class Mended(importlib.abc.MetaPathFinder):
    """Puts `expand` into the module when it is imported."""

    def find_spec(self, name, path, target=None):
        if name != "vllm.utils.cpu_triton_utils":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module._expand_kernel_impl = expand

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Mended())
