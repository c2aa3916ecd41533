"""Where the time goes, and the cost formula as measured: C_DF = C_base + p_err * K * C_repair. [DF, Eq. 29]"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("rollout", "repair", "align", "update")


@dataclass
class Counts:
    """What was done, over all ranks."""

    rollouts: int = 0
    judged: int = 0
    wrong: int = 0
    repairs: int = 0
    """Repairs sampled."""

    def __iadd__(self, other: "Counts") -> "Counts":
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


@dataclass
class Spent:
    """Wall and processor seconds of each stage, and of everything."""

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    total_wall: float = 0.0
    total_cpu: float = 0.0
    counts: Counts = field(default_factory=Counts)

    def __iadd__(self, other: "Spent") -> "Spent":
        for stage in STAGES:
            self.wall[stage] += other.wall[stage]
            self.cpu[stage] += other.cpu[stage]
        self.total_wall += other.total_wall
        self.total_cpu += other.total_cpu
        self.counts += other.counts
        return self


class CostMeter:
    """Clocks of this process. Stages may nest: the inner one's time is not the outer one's.

    Kernels launched on an accelerator are billed to the stage that waits for them.
    """

    def __init__(self) -> None:
        self.window = Spent()
        self.run = Spent()
        self._open: list[str] = []
        self._since = self._opened = _now()

    def start(self) -> None:
        """Begin the first window: what happened before training is not billed."""
        self.window = Spent()
        self._since = self._opened = _now()

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

    def close_window(self) -> Spent:
        """End a window, from one generation step to the next, add it to the run's total, and return it."""
        self._bill()
        wall, cpu = _now()
        closed = self.window
        closed.total_wall, closed.total_cpu = wall - self._opened[0], cpu - self._opened[1]
        self._opened = (wall, cpu)
        self.run += closed
        self.window = Spent()
        return closed

    def _bill(self) -> None:
        wall, cpu = _now()
        if self._open:
            self.window.wall[self._open[-1]] += wall - self._since[0]
            self.window.cpu[self._open[-1]] += cpu - self._since[1]
        self._since = (wall, cpu)


def cost_metrics(window: Spent, run: Spent, num_repairs: int) -> dict[str, float]:
    """Seconds of each stage in one window, and the terms of Eq. 29 against the wall clock, window and run.

    `C_base` is the wall time of rollout and update per rollout, `C_repair` that of one sampled repair. `predicted` is
    the formula's value, `measured` the wall clock; their difference is alignment, whatever lies between the stages, and
    the wrong answers for which no repair was asked.
    """
    metrics = {f"seconds/{stage}": window.wall[stage] for stage in STAGES}
    metrics |= {f"cpu_seconds/{stage}": window.cpu[stage] for stage in STAGES}
    metrics |= {"seconds/total": window.total_wall, "cpu_seconds/total": window.total_cpu}
    for name, spent in (("eq29", window), ("eq29_run", run)):
        metrics |= {f"{name}/{term}": value for term, value in eq29(spent, num_repairs).items()}
    return metrics


def eq29(spent: Spent, num_repairs: int) -> dict[str, float]:
    """The terms of Eq. 29. Without rollouts there is nothing to say."""
    counts = spent.counts
    if not counts.rollouts:
        return {}
    p_err = counts.wrong / counts.judged if counts.judged else 0.0
    base = (spent.wall["rollout"] + spent.wall["update"]) / counts.rollouts
    repair = spent.wall["repair"] / counts.repairs if counts.repairs else 0.0
    return {
        "p_err": p_err,
        "K": float(num_repairs),
        "C_repair_over_C_base": repair / base if base else 0.0,
        "predicted": counts.rollouts * (base + p_err * num_repairs * repair),
        "measured": spent.total_wall,
    }


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
