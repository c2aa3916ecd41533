"""What training costs: one ledger of seconds and counts, and the cost formula on it. [DF, Eq. 29]

    C_DF = C_base + p_err * K * C_repair

The formula is for one sampled answer. Times the answers of a step it is the step's cost, and so `CostTerms` states it.

    C_base      seconds to sample an answer and to update on it: the stages `rollout` and `update`
    p_err       wrong answers over judged answers, whether or not a repair was requested for them
    K           repairs sampled for a wrong answer
    C_repair    seconds of one sampled repair: the stage `repair` over the repairs sampled
    predicted   what the formula says
    measured    all billed seconds. The difference: alignment, what lies between the stages (data, logs, checkpoints),
                and the wrong answers for which no repair was requested

There are three clocks, and every figure names its own: `wall` seconds; `cpu`, the processor seconds of all ranks; and,
where there are GPUs, `gpu`: the wall seconds times the GPUs that the run holds, those of its ranks and of the servers
that work for it. A GPU that waits is held, too. [DF, Sec. 4.1.1 compares methods by GPU time]
The host's logs, a run's summary and the report show all of them. The bench compares methods by processor seconds.

Billed is everything between the start and the end of training, except what happens inside `BILL.paused()`: held-out
measurement. The training of the repair model is set-up; a run's summary states it apart, as `setup_cpu_seconds`.

Windows follow each other, so everything adds up. Ranks work side by side: their answers, processor seconds and GPU
seconds add up; their wall seconds are averaged, since every rank waits for the others.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

STAGES = ("rollout", "repair", "align", "update")
SECONDS = {"wall": "seconds", "cpu": "cpu_seconds", "gpu": "gpu_seconds"}
"""Clock -> how logs name its seconds."""


class BillingClock:
    """Seconds of this process on every clock that it has, without those that were spent inside `paused`."""

    def __init__(self) -> None:
        self._unbilled = {"wall": 0.0, "cpu": 0.0}
        self._stopped: dict[str, float] | None = None
        self._gpus: dict[str, float] = {}
        self._gpu_seconds, self._gpus_since = 0.0, 0.0

    def hold(self, what: str, gpus: float | None) -> None:
        """From now on `gpus` GPUs are billed for `what`: this process's own device, or a server. None: not any more.

        To be called between two runs of a process, not during one. Each rank bills its own device. One rank bills a
        server; the others bill 0 for it, so that all have this clock.
        """
        wall = self.now()["wall"]
        self._gpu_seconds += sum(self._gpus.values()) * (wall - self._gpus_since)
        self._gpus_since = wall
        self._gpus = {name: number for name, number in self._gpus.items() if name != what}
        if gpus is not None:
            self._gpus[what] = gpus
        if self._stopped is not None:
            self._stopped = self._with_gpus({"wall": wall, "cpu": self._stopped["cpu"]})

    def now(self) -> dict[str, float]:
        """Clock -> seconds from an arbitrary zero. `gpu` is there while GPUs are held."""
        if self._stopped is not None:
            return self._stopped
        now = {"wall": time.perf_counter(), "cpu": time.process_time()}
        return self._with_gpus({clock: seconds - self._unbilled[clock] for clock, seconds in now.items()})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not billed."""
        if self._stopped is not None:
            yield
            return
        self._stopped = self.now()
        try:
            yield
        finally:
            wall, cpu = self._stopped["wall"], self._stopped["cpu"]
            self._unbilled = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            self._stopped = None

    def _with_gpus(self, now: dict[str, float]) -> dict[str, float]:
        if not self._gpus:
            return now
        return now | {"gpu": self._gpu_seconds + sum(self._gpus.values()) * (now["wall"] - self._gpus_since)}


BILL = BillingClock()
"""The one clock by which this process bills: budgets and ledgers agree on what is left out."""


@dataclass(frozen=True)
class Counts:
    """Answers of a window."""

    answers: float = 0
    """Sampled."""
    judged: float = 0
    wrong: float = 0
    """Of the judged."""
    repaired: float = 0
    """Wrong answers for which repairs were requested."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def p_err(self) -> float:
        """Wrong answers over judged answers; 0 where none was judged."""
        return self.wrong / self.judged if self.judged else 0.0


@dataclass
class Spent:
    """Seconds by stage, and their `total`, on each clock that the host can read; the answers; the training steps."""

    seconds: dict[str, dict[str, float]] = field(default_factory=lambda: _no_seconds(SECONDS))
    counts: Counts = Counts()
    steps: float = 0
    """Of the host: TRL's optimiser steps, verl's training steps."""

    def __add__(self, other: "Spent") -> "Spent":
        """Two windows, one after the other. A clock that one of them lacks is left out."""
        seconds = {
            clock: {name: value + other.seconds[clock][name] for name, value in parts.items()}
            for clock, parts in self.seconds.items()
            if clock in other.seconds
        }
        return Spent(seconds, self.counts + other.counts, self.steps + other.steps)

    def scaled(self, factor: float) -> "Spent":
        """`factor` windows like this one."""
        seconds = {clock: {name: factor * value for name, value in s.items()} for clock, s in self.seconds.items()}
        counts = Counts(**{name: factor * value for name, value in asdict(self.counts).items()})
        return Spent(seconds, counts, factor * self.steps)

    def terms(self, num_repairs: int) -> "dict[str, CostTerms]":
        """Eq. 29 on each clock, for the mean step; empty without steps or judged answers."""
        counts, steps = self.counts, self.steps
        if not (steps and counts.judged):
            return {}
        sampled = counts.repaired * num_repairs
        return {
            clock: CostTerms(
                base=(seconds["rollout"] + seconds["update"]) / steps,
                answers=counts.answers / steps,
                p_err=counts.p_err,
                repaired=counts.repaired / steps,
                num_repairs=num_repairs,
                repair=seconds["repair"] / sampled if sampled else 0.0,
                measured=seconds["total"] / steps,
                stages={stage: seconds[stage] / steps for stage in STAGES},
            )
            for clock, seconds in self.seconds.items()
        }

    def metrics(self, num_repairs: int) -> dict[str, float]:
        """A row of a host's log: what `ledger` reads, and the terms of Eq. 29 as `eq29/<clock>/<term>`."""
        row = {f"{SECONDS[clock]}/{name}": v for clock, parts in self.seconds.items() for name, v in parts.items()}
        row |= {f"eq29/{name}": float(value) for name, value in asdict(self.counts).items()}
        row |= {
            "eq29/steps": float(self.steps),
            "eq29/p_err": self.counts.p_err,
            "eq29/num_repairs": float(num_repairs),
        }
        for clock, terms in self.terms(num_repairs).items():
            values = terms.to_dict()
            row |= {f"eq29/{clock}/{name}": values[name] for name in ("base", "repair", "predicted", "measured")}
        return row


@dataclass(frozen=True)
class CostTerms:
    """The terms of Eq. 29 for one training step, on one clock. What summaries, bench and report keep and show."""

    base: float
    """Seconds: `C_base` times the answers of a step."""
    answers: float
    """Sampled for a step."""
    p_err: float
    """Wrong answers over judged answers."""
    repaired: float
    """Wrong answers of a step for which repairs were requested."""
    num_repairs: float
    """`K`."""
    repair: float
    """Seconds: `C_repair`, one sampled repair."""
    measured: float
    """Seconds billed for a step."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of a step by stage."""

    @property
    def wrong(self) -> float:
        """Wrong answers of a step, at the rate of the judged ones."""
        return self.p_err * self.answers

    @property
    def predicted(self) -> float:
        """Seconds of a step by the formula."""
        return self.base + self.wrong * self.num_repairs * self.repair

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"wrong": self.wrong, "predicted": self.predicted}


class CostMeter:
    """A ledger that is being written. Stages may nest: the inner one's time is not the outer one's.

    Kernels launched on an accelerator are billed to the stage that waits for them.
    """

    def __init__(self) -> None:
        self.run = Spent()
        """All closed windows of this process, over all ranks."""
        self._open: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin the first window: what happened before training is not billed."""
        self._since = self._opened = BILL.now()
        self.window = Spent(_no_seconds(self._opened))

    def begin(self, stage: str) -> None:
        self._bill()
        self._open.append(stage)

    def end(self) -> None:
        self._bill()
        self._open.pop()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        self.begin(stage)
        try:
            yield
        finally:
            self.end()

    def close_window(self, gather: Callable[[list[Spent]], Sequence[Spent]] = list) -> Spent:
        """End a window, from one generation step to the next, add it to the run, and return it.

        `gather` returns every rank's windows.
        """
        now = self._bill()
        for clock, seconds in self.window.seconds.items():
            seconds["total"] = now[clock] - self._opened[clock]
        closed = over_ranks(gather([self.window]))
        self._opened, self.window = now, Spent(_no_seconds(now))
        self.run += closed
        return closed

    def _bill(self) -> dict[str, float]:
        now = BILL.now()
        if self._open:
            for clock, seconds in self.window.seconds.items():
                seconds[self._open[-1]] += now[clock] - self._since[clock]
        self._since = now
        return now


def _no_seconds(clocks: Iterable[str]) -> dict[str, dict[str, float]]:
    return {clock: dict.fromkeys((*STAGES, "total"), 0.0) for clock in clocks}


def over_ranks(ranks: Sequence[Spent]) -> Spent:
    """The same window of every rank as one."""
    total = sum(ranks, Spent())
    total.seconds["wall"] = {name: value / len(ranks) for name, value in total.seconds["wall"].items()}
    total.steps = ranks[0].steps
    return total


def ledger(rows: Iterable[Mapping[str, Any]], prefix: str = "df/") -> Spent:
    """The ledger of a whole run, from its logged rows with their `step`; of a resumed run with the rows before.

    A row may hold the mean of several windows. The steps since the row before say of how many.
    """
    total, last = Spent(), 0
    for row in rows:
        if f"{prefix}eq29/steps" not in row:
            continue
        seconds = {
            clock: {stage: row[f"{prefix}{name}/{stage}"] for stage in (*STAGES, "total")}
            for clock, name in SECONDS.items()
            if f"{prefix}{name}/total" in row
        }
        counts = Counts(**{part.name: row[f"{prefix}eq29/{part.name}"] for part in fields(Counts)})
        window = Spent(seconds, counts, row[f"{prefix}eq29/steps"])
        total += window.scaled((row["step"] - last) / window.steps)
        last = row["step"]
    return total
