"""Packages that a recipe may need and that need not be installed, found without importing them."""

import importlib.util

from difference_feedback.errors import ConfigError

EXTRAS = {"peft": "peft", "httpx": "endpoint", "gradio": "annotate"}
"""Module -> the extra of this package that brings it."""
TRACKERS = {
    "azure_ml": "azureml",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dagshub": "dagshub",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Name in `report_to` -> the module that it needs."""
VERL_TRACKERS = ("clearml", "mlflow", "swanlab", "tensorboard", "trackio", "wandb")
"""Those that verl has."""


ATTENTION = {
    "eager": (),
    "sdpa": (),
    "flex_attention": (),
    "flash_attention_2": ("flash_attn", "kernels"),
    "flash_attention_3": ("flash_attn_interface", "kernels"),
    "flash_attention_4": ("flash_attn", "kernels"),
}
"""Attention, by transformers' names -> the packages of which it needs one."""


def is_installed(module: str) -> bool:
    """Whether a package can be imported; a bare folder of that name cannot."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def require(module: str, what: str) -> None:
    """Raise `ConfigError` where `module`, which `what` needs, is not installed."""
    if not is_installed(module):
        raise ConfigError(f"{what} needs the package {module}: pip install 'difference-feedback[{EXTRAS[module]}]'")
