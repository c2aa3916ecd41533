"""DF-DPO in TRL: `DPOTrainer` on preference pairs, weighted where the two answers differ. [DF, Eq. 10]

The weights go inside the sequence log-ratios: TRL sums a row's `log π_θ(o_t)` and `log π_ref(o_t)` over its tokens, and
the trainer makes both sums weighted ones. A token of weight 0 then has no gradient and no part in the margin.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from trl import DPOConfig, DPOTrainer

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import align
from difference_feedback.method.settings import MaskSettings, TokenTexts


@dataclass
class DFDPOConfig(MaskSettings, DPOConfig):
    """TRL's `DPOConfig` with the settings of the mask; `weights="ones"` makes it plain DPO.

    Raises `ConfigError` for what sums log-probabilities differently from the sigmoid loss.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check()
        if self.weights not in ("mask", "ones"):
            raise ConfigError(f"weights={self.weights!r}: preferences have no ablations of the mask; use mask or ones.")
        refused = {
            f"loss_type={self.loss_type!r}": (list(self.loss_type) != ["sigmoid"], "verified with ['sigmoid'] only"),
            "f_divergence_type": (self.f_divergence_type != "reverse_kl", "verified with 'reverse_kl' only"),
            "ld_alpha": (self.ld_alpha is not None, "it weighs the same tokens by their place; leave it None"),
            "use_weighting": (self.use_weighting, "it would weigh a pair by its unweighted tokens; leave it off"),
            "precompute_ref_log_probs": (
                self.precompute_ref_log_probs,
                "the sums computed beforehand are not weighted; leave it off",
            ),
            "use_liger_kernel": (self.use_liger_kernel, "it never makes the log-probabilities of tokens; leave it off"),
        }
        problems = [f"{what}: {why}." for what, (wrong, why) in refused.items() if wrong]
        if problems:
            raise ConfigError("DFDPOConfig: " + " ".join(problems))


@dataclass
class WeightedPreferences:
    """A data collator around TRL's: adds `weights` `(2P, L)`, aligned with `input_ids`, chosen rows first."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    settings: MaskSettings
    token_texts: TokenTexts

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        ids, completion = batch["input_ids"], batch["completion_mask"].bool()
        weights = torch.zeros(ids.shape)
        half = len(ids) // 2
        for i in range(half):
            chosen, rejected = ids[i][completion[i]].tolist(), ids[half + i][completion[half + i]].tolist()
            alignment = align(rejected, chosen, **self.settings.alignment_options)
            wrong = self.settings.side_weights(alignment, "wrong", rejected, self.token_texts)
            repair = self.settings.side_weights(alignment, "repair", chosen, self.token_texts)
            weights[i, completion[i]] = torch.from_numpy(repair)
            weights[half + i, completion[half + i]] = torch.from_numpy(wrong)
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
            tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)

            def texts(token_ids: Sequence[int]) -> list[str]:
                return [tokenizer.decode([i]) for i in token_ids]

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
        silent = (weights.chunk(2)[0].sum(1) + weights.chunk(2)[1].sum(1) == 0).sum().float()
        metrics["df/identical_pairs"].append(self.accelerator.gather(silent[None]).sum().item())
