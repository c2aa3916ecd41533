"""DF-DPO in TRL: `DPOTrainer` on preference pairs, weighted where the two answers differ. [DF, Eq. 10]

The weights go inside the sequence log-ratios: TRL sums a row's `log π_θ(o_t)` and `log π_ref(o_t)` over its tokens, and
the trainer makes both sums weighted ones. A token of weight 0 then has no gradient and no part in the margin.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from trl import DPOConfig, DPOTrainer

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import align
from difference_feedback.method.settings import MaskSettings, refuse
from difference_feedback.method.token_texts import TokenTexts, token_texts


@dataclass
class DFDPOConfig(MaskSettings, DPOConfig):
    """TRL's `DPOConfig` with the settings of the mask; `weights="ones"` makes it plain DPO.

    Raises `ConfigError` for what sums log-probabilities differently from the sigmoid loss.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check()
        refuse("DFDPOConfig", self._problems())

    def _problems(self) -> Iterator[str]:
        if self.weights not in ("mask", "ones"):
            yield f"weights={self.weights!r}: preferences take no other weights; use mask or ones"
        if list(self.loss_type) != ["sigmoid"]:
            yield f"loss_type={self.loss_type!r}: weights are verified with ['sigmoid'] only"
        if self.f_divergence_type != "reverse_kl":
            yield "f_divergence_type: weights are verified with 'reverse_kl' only"
        if self.ld_alpha is not None:
            yield "ld_alpha weighs the same tokens by their place; leave it None"
        if self.use_weighting:
            yield "use_weighting would weigh a pair by its unweighted tokens; leave it off"
        if self.precompute_ref_log_probs:
            yield "precompute_ref_log_probs stores sums that are not weighted; leave it off"
        if self.use_liger_kernel:
            yield "use_liger_kernel never computes the log-probabilities of tokens; leave it off"


@dataclass
class WeightedPreferences:
    """A data collator around TRL's: adds `weights` `(2P, L)`, aligned with `input_ids`, chosen rows first."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    settings: MaskSettings
    texts: TokenTexts

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        weights, half = torch.zeros(batch["input_ids"].shape), len(batch["input_ids"]) // 2
        for i in range(half):
            chosen, rejected = batch["completion_mask"][i].bool(), batch["completion_mask"][half + i].bool()
            repair, wrong = batch["input_ids"][i][chosen].tolist(), batch["input_ids"][half + i][rejected].tolist()
            path = align(wrong, repair, **self.settings.alignment_options)
            weights[i, chosen] = torch.from_numpy(self.settings.side_weights(path, "repair", repair, self.texts))
            weights[half + i, rejected] = torch.from_numpy(self.settings.side_weights(path, "wrong", wrong, self.texts))
        return {**batch, "weights": weights}


class DFDPOTrainer(DPOTrainer):
    """`trl.DPOTrainer` with weights: the same constructor, a `DFDPOConfig`, a data set of `prompt`, `chosen`,
    `rejected` and, for images, `images`. [DF, Eq. 10]

    The masks are those of aligning `rejected` with `chosen`. Two answers that were written apart differ nearly
    everywhere; `repair_preferences` first puts a repair of `rejected` in the place of `chosen`. Logged under `df/`:
    `weight_density/chosen`, `weight_density/rejected`, and `identical_pairs`, whose two answers are the same and teach
    nothing.
    """

    args: DFDPOConfig
    model: Any
    _metrics: dict[str, Any]

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if not isinstance(self.args, DFDPOConfig):
            raise ConfigError(f"args is a {type(self.args).__name__}; DFDPOTrainer needs a DFDPOConfig.")
        if self.args.weights == "mask":
            texts = token_texts(getattr(self.processing_class, "tokenizer", self.processing_class))
            self.data_collator = WeightedPreferences(self.data_collator, self.args, texts)

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if "weights" not in inputs:
            return super()._compute_loss(model, inputs, return_outputs)
        plain = dict(inputs)
        weights = plain.pop("weights")
        self._note_density(weights, inputs["completion_mask"])
        with self._weighted(weights[:, 1:]):  # log-probabilities are those of the following token
            return super()._compute_loss(model, plain, return_outputs)

    @contextmanager
    def _weighted(self, weights: torch.Tensor) -> Iterator[None]:
        """Every log-probability that policy or reference give is multiplied by its weight `(2P, L - 1)`."""

        def weigh(module: nn.Module, args: Any, output: Any) -> Any:
            if output.get("log_probs") is not None:
                logps = output.log_probs[:, -weights.size(1) :]
                output.log_probs = torch.where(weights == 0, 0.0, logps * weights.to(logps.dtype))
            return output

        with ExitStack() as stack:
            for module in (self.model, self.ref_model):
                if module is not None:
                    stack.callback(module.register_forward_hook(weigh).remove)
            yield

    def _note_density(self, weights: torch.Tensor, mask: torch.Tensor) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        for side, values, tokens in zip(("chosen", "rejected"), weights.chunk(2), mask.chunk(2), strict=True):
            totals = self.accelerator.gather(torch.stack([values.sum(), tokens.sum().float()])[None]).sum(0)
            metrics[f"df/weight_density/{side}"].append((totals[0] / totals[1].clamp(min=1)).item())
        chosen, rejected = weights.sum(1).chunk(2)
        identical = (chosen + rejected == 0).sum().float()
        metrics["df/identical_pairs"].append(self.accelerator.gather(identical[None]).sum().item())
