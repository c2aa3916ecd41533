"""An update without the rows that have no gradient: TRL's weights, for less time. For any of TRL's GRPO trainers.

A row whose advantage is 0 (all answers of its prompt are right, or all are wrong), whose weights are all 0, or that has
no tokens in the loss, has a gradient of exactly 0. Such rows are left out. The others stay in the optimiser step into
which TRL's shuffle has put them, and are spread evenly over its micro-batches and over the ranks. Micro-batches that
are empty on all ranks are skipped. Divisors stay those of all rows: the weights of the model are the same but for
rounding.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from trl import GRPOConfig, GRPOTrainer

from difference_feedback.errors import ConfigError
from difference_feedback.trl.image_rows import select_rows
from difference_feedback.trl.objective import ROW_MEAN_LOSSES
from difference_feedback.trl.row_exchange import exchange, join_rows
from difference_feedback.trl.row_plan import Move, plan_rows


def refusals(args: GRPOConfig) -> Iterator[str]:
    """Settings with which the gradient is not a sum over rows, each with its own divisor. Each names its key."""
    if args.loss_type == "bnpo":
        yield "loss_type='bnpo' divides by the tokens of a micro-batch"
    if args.entropy_coef != 0.0 or args.use_adaptive_entropy:
        yield "entropy_coef and use_adaptive_entropy take the entropy of all rows"
    if args.top_entropy_quantile < 1.0:
        yield "top_entropy_quantile compares the tokens of all rows"
    if args.router_aux_loss_coef:
        yield "router_aux_loss_coef balances the experts over all rows"
    if args.use_liger_kernel:
        yield "use_liger_kernel was not tested with it"


def check_lean(args: Any) -> None:
    """Raise `ConfigError` where `leave_out_rows` is on and settings forbid it."""
    problems = list(refusals(args)) if args.leave_out_rows else []
    if args.leave_out_rows and args.beta != 0.0:
        problems.append("beta is not 0, so the KL gives every row a gradient")
    if problems:
        raise ConfigError(f"leave_out_rows: {'; '.join(problems)}: change that, or leave out leave_out_rows.")


def draws_in_training(model: nn.Module) -> bool:
    """Whether the model's forward pass draws random numbers in training, so that fewer rows change the later draws."""
    return any(
        (isinstance(module, nn.Dropout) and module.p > 0) or bool(getattr(module, "attention_dropout", 0))
        for module in model.modules()
    )


def has_gradient(batch: dict[str, Any], *, kl: bool) -> torch.Tensor:
    """Which rows of a batch for TRL's loss can have a gradient other than 0, `(B,)`. `kl`: a KL reaches every token."""
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    if kl:
        return mask.any(dim=1)
    advantages = batch["advantages"].reshape(len(mask), -1)  # a trainer may have one for every token
    return (mask * batch.get("weights", 1) * (advantages != 0)).any(dim=1)


def rows_at_once(batch: dict[str, Any], steps_per_generation: int) -> int:
    """Rows of the largest micro-batch into which a batch will be split."""
    if "micro_batch" in batch:
        return int(batch["micro_batch"].bincount().max())
    return len(batch["prompt_ids"]) // steps_per_generation


class LeanUpdate(GRPOTrainer):
    """`GRPOTrainer` that leaves rows without a gradient out of the update. It reads `leave_out_rows` of its settings:

    None leaves them out where the weights stay the same but for rounding, True also where the model draws random
    numbers in training (dropout), False never: then everything is TRL's own, bit for bit.
    """

    args: Any
    model: Any
    lean: bool = False
    """Whether the update has the needed rows alone."""
    _buffered_inputs: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = getattr(self.args, "leave_out_rows", None)
        reasons = [*refusals(self.args), *self._needs_all_rows()]
        if choice and reasons:
            raise ConfigError(f"leave_out_rows: {'; '.join(reasons)}: change that, or leave out leave_out_rows.")
        draws = draws_in_training(self.model) or bool(self.args.neftune_noise_alpha)
        self.lean = choice is not False and not reasons and (bool(choice) or not draws)

    def _needs_all_rows(self) -> Iterator[str]:
        """What the model and the ranks say, beside `refusals` of the settings."""
        if self.aux_loss_enabled:
            yield "the model's auxiliary loss balances its experts over all rows"
        if any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            yield "the model normalises over all rows (BatchNorm)"
        groups = getattr(self.accelerator, "parallelism_config", None)
        if groups is not None and groups.non_data_parallel_size > 1:
            yield "ranks share rows (tensor or context parallelism)"

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if not self.model.training or not self.lean or (self.beta != 0.0 and not self._regroups):
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            if "micro_batch" not in batch:
                batch = self.lean_batch(batch, len(batch["prompt_ids"]))
            self._buffered_inputs = split_rows(batch, steps)
        return self._buffered_inputs[self._step % steps]

    def lean_batch(self, batch: dict[str, Any], num_rows: int, fillers: int = 0) -> dict[str, Any]:
        """The needed rows in the order of the update. The last `fillers` rows of `batch` only fill up.

        TRL would shuffle `num_rows` rows on this rank, the first of which are those of `batch`. Returns the fields of
        `batch` with `micro_batch` `(B,)`, the place of each row, and `row_scale` `(B,)`, which turns TRL's mean over
        its micro-batch into the part that its rows have in the mean over all.
        """
        steps, order = self.args.steps_per_generation, torch.randperm(num_rows).tolist()  # TRL's own draw
        window, size = math.gcd(steps, self.args.gradient_accumulation_steps), num_rows // steps
        keeps = has_gradient(batch, kl=self.beta != 0.0).tolist()
        windows = _windows([min(row, len(keeps) - 1) for row in order], size * window)
        here = [[row for row in rows if keeps[row]] for rows in windows]
        without: int = sum(gather_object([keeps[: len(keeps) - fillers].count(False)]))
        self._metrics["train"]["rows_without_gradient"].append(float(without))
        num_images = batch.get("num_images") or [0] * len(keeps)
        if self.accelerator.num_processes == 1:  # several ranks have blank images for this
            _keep_an_image(here, windows, num_images)
        counts = gather_object([[len(rows) for rows in here]])
        first = self._step % steps // window
        plan = plan_rows(counts, window, self.args.per_device_train_batch_size, first)
        if plan.moves:
            batch = self._move(batch, plan.moves, here)
        rows: list[int] = []
        for i, kept in enumerate(here):
            missing = sum(plan.sizes[i * window : (i + 1) * window]) - len(kept)
            spare = sorted((row for row in windows[i] if not keeps[row]), key=lambda row: (num_images[row], -row))
            rows += [*kept, *spare[:1] * missing]
        batch, device = select_rows(batch, rows), batch["prompt_ids"].device
        sizes = torch.tensor(plan.sizes, device=device)
        batch["micro_batch"] = torch.arange(steps, device=device).repeat_interleave(sizes)
        batch["row_scale"] = sizes[batch["micro_batch"]] / size
        return batch

    def _move(self, batch: dict[str, Any], moves: Sequence[Move], here: list[list[int]]) -> dict[str, Any]:
        """Send and receive what the plan says: rows that arrive are behind those of `batch`. `here`, the rows of each
        window on this rank, is changed in place.
        """
        rank, arrived = self.accelerator.process_index, len(batch["prompt_ids"])
        sends: dict[int, list[int]] = {}
        for move in moves:
            if move.source == rank:
                rows = sorted(here[move.window])[-move.rows :]  # in the batch's order, where pairs stand together
                here[move.window] = [row for row in here[move.window] if row not in rows]
                sends.setdefault(move.target, []).extend(rows)
        arrivals = [move for move in moves if move.target == rank]
        sources = sorted({move.source for move in arrivals})
        received = exchange(batch, sends, sources)
        for move in sorted(arrivals, key=lambda move: move.source):  # each source's, in the order of the plan
            here[move.window] += range(arrived, arrived + move.rows)
            arrived += move.rows
        return join_rows([batch, *received], self._tokenizer.pad_token_id) if received else batch

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        buffered, steps = self._buffered_inputs, self.args.steps_per_generation
        generates = self._step % (steps * self.num_iterations) == 0 or buffered is None
        if not generates and not buffered[self._step % steps]:
            self._step += 1
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        scales = "row_scale" in inputs and self.loss_type in (*ROW_MEAN_LOSSES, "luspo")
        return loss * inputs["row_scale"][0] if scales else loss

    @property
    def _regroups(self) -> bool:
        """Whether the rows of the update are other ones than the rollouts: these leave room for fillers."""
        return bool(getattr(self.args, "regroup", False))


def split_rows(batch: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """The micro-batches of a lean batch; empty ones are empty dictionaries."""
    places = batch.pop("micro_batch").tolist()
    rows: list[list[int]] = [[i for i, place in enumerate(places) if place == step] for step in range(steps)]
    return [select_rows(batch, of_step) if of_step else {} for of_step in rows]


def _windows(rows: Sequence[int], size: int) -> list[list[int]]:
    """The rows of each optimiser step."""
    return [[*rows[start : start + size]] for start in range(0, len(rows), size)]


def _keep_an_image(here: Sequence[list[int]], windows: Sequence[list[int]], num_images: Sequence[int]) -> None:
    """Keep a row with images in each optimiser step that has some, if only in a filler: else the vision tower would
    have no gradient at all, and an optimiser with moments would leave it alone, where a gradient of 0 moves it.
    """
    for kept, rows in zip(here, windows, strict=True):
        pictured = [row for row in rows if num_images[row]]
        if pictured and not any(num_images[row] for row in kept):
            kept.append(pictured[0])
