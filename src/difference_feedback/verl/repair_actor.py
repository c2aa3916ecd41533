"""The repair model as its own Ray actor: agent loops call it while other prompts are still sampled. [DF, Eq. 5]"""

import time
from collections.abc import Sequence
from typing import Any

import ray

from difference_feedback.method.repairs import Repair, Repairer, RepairRequest
from difference_feedback.verl.settings import VerlSettings

NAME = "difference_feedback_repairer"


class RepairActor:
    """Holds a repair model, or the connection to a server of one."""

    def __init__(self, settings: VerlSettings, policy_path: str, max_tokens: int) -> None:
        self.repairer = _repairer(settings, policy_path, max_tokens)
        self.num_repairs = settings.num_repairs
        self._seconds = 0.0

    def repair(self, requests: Sequence[RepairRequest], call: int) -> list[list[Repair]]:
        """`K` candidates for each request. `call` numbers the random stream, so the order of calls does not matter."""
        if hasattr(self.repairer, "calls"):
            self.repairer.calls = call
        start = time.perf_counter()
        try:
            return self.repairer.repair(requests, self.num_repairs)
        finally:
            self._seconds += time.perf_counter() - start

    def take_seconds(self) -> float:
        """Wall seconds spent in repairs since this was last called."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


def start(settings: VerlSettings, policy_path: str, max_tokens: int) -> Any:
    """Start the actor under its name, wait until its model is loaded, and return its handle."""
    actor = ray.remote(RepairActor).options(name=NAME, num_gpus=settings.num_gpus, num_cpus=settings.num_cpus)
    handle = actor.remote(settings, policy_path, max_tokens)
    ray.get(handle.__ray_ready__.remote())
    return handle


def _repairer(settings: VerlSettings, policy_path: str, max_tokens: int) -> Repairer:
    sampling: dict[str, Any] = {"temperature": settings.temperature, "seed": settings.reference_seed}
    if settings.via == "local":
        import torch

        from difference_feedback.repair.local import LocalRepairer

        torch.set_num_threads(max(1, int(settings.num_cpus)))
        return LocalRepairer.from_pretrained(
            str(settings.repair_model),
            device="cuda" if settings.num_gpus else "cpu",
            dtype=settings.dtype,
            attention=settings.attention,
            style=settings.style,
            max_new_tokens=max_tokens,
            batch_size=settings.batch_size,
            **sampling,
        )
    from transformers import AutoTokenizer

    from difference_feedback.repair.endpoint import EndpointRepairer, VLLMServerRepairer
    from difference_feedback.runs.sections import Endpoint

    kind = VLLMServerRepairer if settings.via == "vllm" else EndpointRepairer
    endpoint, tokenizer = Endpoint.model_validate(settings.endpoint), AutoTokenizer.from_pretrained(policy_path)
    return kind(endpoint, tokenizer, style=settings.style or "full", **sampling)
