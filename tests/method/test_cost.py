"""The ledger: Eq. 29 by hand, how windows and ranks add up, nested stages, pauses, rows of a log."""

import time
from collections.abc import Callable

import pytest

from difference_feedback.method.cost import BILL, CostMeter, Counts, Spent, ledger, over_ranks

ONE = Counts(8, 8, 2, 1)


def window(scale: float = 1.0, counts: Counts = ONE, steps: float = 1) -> Spent:
    wall = {"rollout": 2.0, "repair": 0.5, "align": 0.25, "update": 1.0, "total": 4.0}
    return Spent(
        {clock: {n: scale * by * v for n, v in wall.items()} for clock, by in (("wall", 1), ("cpu", 2))}, counts, steps
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time passes by call alone; the processor works half of it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: now[0] / 2)
    monkeypatch.setattr(BILL, "_unbilled", {"wall": 0.0, "cpu": 0.0})
    monkeypatch.setattr(BILL, "_gpus", {})
    monkeypatch.setattr(BILL, "_gpu_seconds", 0.0)
    monkeypatch.setattr(BILL, "_gpus_since", 0.0)

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def test_the_formula_by_hand() -> None:
    # 10 answers a step, 8 of them judged, 2 wrong, repairs requested for 1: 2 steps, K = 4.
    spent = window(counts=Counts(20, 16, 4, 2), steps=2)
    terms = spent.terms(num_repairs=4)
    assert set(terms) == {"wall", "cpu"}
    wall = terms["wall"]
    assert (wall.answers, wall.p_err, wall.wrong, wall.repaired) == (10, 0.25, 2.5, 1)
    assert (wall.base, wall.repair, wall.measured) == ((2.0 + 1.0) / 2, 0.5 / (2 * 4), 2.0)
    assert wall.predicted == 1.5 + 10 * 0.25 * 4 * 0.0625
    assert terms["cpu"].predicted == 2 * wall.predicted
    assert wall.to_dict()["predicted"] == wall.predicted


def test_predicted_is_measured_when_only_the_formula_s_stages_take_time() -> None:
    spent = window(counts=Counts(8, 8, 2, 2))
    for seconds in spent.seconds.values():
        seconds["total"] = seconds["rollout"] + seconds["repair"] + seconds["update"]
    for terms in spent.terms(3).values():
        assert terms.predicted == pytest.approx(terms.measured)


def test_without_judged_answers_or_steps_nothing_is_said() -> None:
    assert Spent().terms(1) == {}
    assert window(counts=Counts(answers=8)).terms(1) == {}


def test_windows_and_ranks_add_up_in_either_order() -> None:
    first = [window(1.0), window(3.0, Counts(8, 7, 4, 4))]
    second = [window(2.0, steps=2), window(5.0, Counts(4, 4, 0, 0), steps=2)]
    by_rank = over_ranks([a + b for a, b in zip(first, second, strict=True)])
    assert by_rank == over_ranks(first) + over_ranks(second)
    assert by_rank.counts == Counts(28, 27, 8, 6)
    assert by_rank.steps == 3
    assert by_rank.seconds["cpu"]["rollout"] == 2 * 2.0 * (1 + 3 + 2 + 5)
    assert by_rank.seconds["wall"]["rollout"] == 2.0 * (1 + 3 + 2 + 5) / 2


def test_a_clock_that_one_window_lacks_is_left_out() -> None:
    lacking = Spent({"wall": window().seconds["wall"]}, ONE, 1)
    assert set((window() + lacking).terms(1)) == {"wall"}


def test_nested_stages_are_billed_once_and_pauses_not_at_all(clock: Callable[[float], None]) -> None:
    meter = CostMeter()
    clock(100.0)
    meter.start()
    with meter.measure("align"):
        clock(1.0)
        with meter.measure("update"):
            clock(2.0)
            with BILL.paused():
                clock(50.0)
                with BILL.paused():
                    clock(50.0)
        clock(4.0)
    clock(8.0)
    closed = meter.close_window()
    assert closed.seconds["wall"] == {"rollout": 0.0, "repair": 0.0, "align": 5.0, "update": 2.0, "total": 15.0}
    assert closed.seconds["cpu"] == {name: seconds / 2 for name, seconds in closed.seconds["wall"].items()}
    clock(1.0)
    assert meter.close_window().seconds["wall"]["total"] == 1.0
    assert meter.run.seconds["wall"]["total"] == 16.0


def test_gpu_seconds_are_wall_seconds_times_the_gpus_held(clock: Callable[[float], None]) -> None:
    BILL.hold("device", 1)
    meter = CostMeter()
    meter.start()
    with meter.measure("rollout"):
        clock(3.0)
        BILL.hold("a server", 2)
        clock(5.0)
    with BILL.paused():
        clock(100.0)
    BILL.hold("a server", None)
    clock(7.0)
    seconds = meter.close_window().seconds
    assert seconds["gpu"]["rollout"] == 3.0 + 3 * 5.0
    assert seconds["gpu"]["total"] == 3.0 + 3 * 5.0 + 7.0
    assert seconds["wall"]["total"] == 15.0


def test_gpus_may_be_held_or_left_during_a_pause(clock: Callable[[float], None]) -> None:
    BILL.hold("device", 1)
    start = BILL.now()["gpu"]
    clock(1.0)
    with BILL.paused():
        clock(10.0)
        BILL.hold("a server", 3)
        clock(10.0)
    clock(1.0)
    assert BILL.now()["gpu"] - start == 1.0 + 4.0


def test_gpu_seconds_add_up_over_ranks_of_which_one_bills_the_server() -> None:
    ranks = [Spent({"wall": window().seconds["wall"], "gpu": window(by).seconds["wall"]}, ONE, 1) for by in (3, 1)]
    together = over_ranks(ranks)
    assert together.seconds["gpu"]["total"] == 4 * window().seconds["wall"]["total"]
    assert together.seconds["wall"] == window().seconds["wall"]


def test_logged_rows_hold_the_ledger_whether_logged_one_by_one_or_as_means() -> None:
    windows = [window(scale, Counts(8, 8, wrong, wrong), 1) for scale, wrong in ((1, 2), (2, 4), (3, 0), (4, 6))]
    rows = [{f"df/{name}": value for name, value in spent.metrics(2).items()} for spent in windows]
    total = sum(windows, Spent())
    each = ledger({"step": step, **row} for step, row in enumerate(rows, 1))
    means = [{name: (a[name] + b[name]) / 2 for name in a} for a, b in (rows[:2], rows[2:])]
    paired = ledger([{"step": 2, **means[0]}, {"step": 3, "accuracy": 0.5}, {"step": 4, **means[1]}])
    assert each == total
    assert paired == total
    assert rows[0]["df/eq29/wall/predicted"] == windows[0].terms(2)["wall"].predicted
