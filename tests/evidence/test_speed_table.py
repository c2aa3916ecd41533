"""The tables of the speed benchmark against figures by hand."""

from typing import Any

from speed_table import speed_table, step_table


def row(measure: str, tree: str, run: int, **figures: float) -> dict[str, Any]:
    return {"measure": measure, "tree": tree, "run": run, "figures": figures}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_are_those_of_each_run_and_a_run_of_one_tree_does_not_count() -> None:
    rows = [
        row("a", tree, run, x=x)
        for tree, values in (("before", (4, 9, 8)), ("after", (2, 3, 8)))
        for run, x in enumerate(values)
    ]
    lines = speed_table([*rows, row("a", "before", 3, x=100)]).splitlines()
    assert [cells(line) for line in lines[2:]] == [["x", "8", "3", "2.00", "1.00 to 3.00 (3)"]]


def test_a_step_is_compared_with_that_of_the_same_run() -> None:
    rows = [row("grpo", tree, run, s=1.0 + run) for tree in ("before", "after") for run in (0, 1, 2)]
    rows += [row("df_grpo", "before", run, **{"a step, s": 2.0 + 2 * run, "of it repair, s": 1.0}) for run in (0, 1, 2)]
    rows += [
        row("df_grpo", "after", run, **{"a step, s": 0.5 + 0.5 * run, "of it repair, s": 0.25}) for run in (0, 1, 2)
    ]
    table = {cells(line)[0]: cells(line)[1:] for line in step_table(rows).splitlines()[2:]}
    assert table["a step of GRPO"][:2] == ["2.000 s (1.000 to 3.000)"] * 2
    assert table["of it repair"] == ["1.000 s (1.000 to 1.000)", "0.250 s (0.250 to 0.250)", "25%"]
    assert table["DF-GRPO over GRPO"][:2] == ["2.00 (2.00 to 2.00)", "0.50 (0.50 to 0.50)"]
