"""A replica of the repair model, or the connection to a server of one, as a Ray actor. [DF, Eq. 5]"""

from collections.abc import Sequence
from typing import Any

import ray

from difference_feedback.method.repairs import Repair, Repairer, RepairRequest
from difference_feedback.verl.settings import VerlSettings


class RepairActor:
    """Repairs one batch after the other."""

    def load(self, settings: VerlSettings, device: str, policy_path: str, max_tokens: int) -> None:
        """Load the model onto `device`, by verl's name of it. An error here is the model's, not the actor's start."""
        self.num_repairs = settings.num_repairs
        self.repairer = _repairer(settings, device, policy_path, max_tokens)

    def repair(self, requests: Sequence[RepairRequest]) -> list[list[Repair]]:
        """`K` candidates for each request, by the request's own random streams."""
        try:
            return self.repairer.repair(requests, self.num_repairs)
        finally:
            self._free()

    def _free(self) -> None:
        """Give the memory of caches back, which the policy on the same GPU needs for its update."""
        device = getattr(getattr(self.repairer, "model", None), "device", None)
        if device is not None and device.type != "cpu":
            import torch

            torch.get_device_module(device).empty_cache()


def _repairer(settings: VerlSettings, device: str, policy_path: str, max_tokens: int) -> Repairer:
    sampling: dict[str, Any] = {"temperature": settings.temperature, "seed": settings.reference_seed}
    if settings.via == "local":
        import torch

        from difference_feedback.repair.local import LocalRepairer

        torch.set_num_threads(max(1, int(settings.num_cpus)))
        return LocalRepairer.from_pretrained(
            str(settings.repair_model),
            device="cpu" if settings.placement == "cpu" else _visible(device),
            dtype=settings.dtype,
            attention=settings.attention,
            style=settings.style,
            max_new_tokens=max_tokens,
            batch_size=settings.batch_size,
            speculate=settings.speculate,
            **sampling,
        )
    from transformers import AutoTokenizer

    from difference_feedback.repair.endpoint import served_repairer

    tokenizer = AutoTokenizer.from_pretrained(policy_path)
    return served_repairer(settings.via, settings.server, tokenizer, settings.style, **sampling)


def _visible(device: str) -> str:
    """The device that Ray gave this actor: the only one it can see, unless Ray is set to hide none."""
    from verl.plugin.platform import get_platform
    from verl.utils.ray_utils import ray_noset_visible_devices

    if device == "cpu" or not ray_noset_visible_devices():
        return device
    return f"{device}:{ray.get_runtime_context().get_accelerator_ids()[get_platform().ray_resource_name()][0]}"
