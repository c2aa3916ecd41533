"""Speed of an earlier commit against this tree: one table, each figure with its ratio and the spread of the runs.

    python evidence/speed.py [--before 2f42703] [--runs 5] [--only repair masks] [--output runs/speed]

Every measure of `speed_measures.py` runs in a process of its own, with the code of the one commit and of the other in
turns, so that what else the machine does meets both. Both are unpacked: edits meanwhile change nothing. A run that was
interrupted goes on; after a new commit, its figures replace those of the measures that it runs. Keep the machine quiet.
`python evidence/build.py` makes docs/speed.md from evidence/results/speed.jsonl; `--keep` puts the results there.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from rich.progress import track

from speed_measures import MEASURES
from speed_table import speed_table

ROOT = Path(__file__).parents[1]
BEFORE = "2f42703"
KEPT = ROOT / "evidence" / "results" / "speed.jsonl"


def main() -> None:
    options = _options()
    folder: Path = options.output.resolve()
    before = _unpacked(options.before, folder)
    results = KEPT if options.keep else folder / "speed.jsonl"
    after = _git("rev-parse", "--short", "HEAD").decode().strip()
    trees = {"before": before, "after": _unpacked(after, folder)}
    names = options.only or list(MEASURES)
    commits = {"before": options.before, "after": after}
    rows = [row for row in _rows(results) if row["measure"] not in names or commits.items() <= row.items()]
    done = {(row["measure"], row["tree"], row["run"]) for row in rows}
    # The order of the two trees changes with every run: a machine that grows slower meets both alike.
    jobs = [
        (name, tree, run)
        for run in range(options.runs)
        for name in names
        for tree in (("before", "after") if run % 2 == 0 else ("after", "before"))
        if (name, tree, run) not in done
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, tree, run in track(jobs, "Measuring", disable=not sys.stderr.isatty()):
        row = {"measure": name, "tree": tree, "run": run, **commits, "figures": _measure(name, trees[tree], folder)}
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(speed_table(rows))


def _measure(name: str, tree: Path, folder: Path) -> dict[str, float]:
    """The figures of one measure, made by the code of `tree` in a fresh process on one core."""
    settings = {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "evidence" / "speed_measures.py"), name, str(folder)]
    result = subprocess.run(command, env=os.environ | settings, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{name} failed with the code of {tree}:\n{result.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def _unpacked(revision: str, folder: Path) -> Path:
    """The package of a commit."""
    tree = folder / f"commit-{revision}"
    if not tree.is_dir():
        tree.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", revision, "src", "recipes"))) as archive:
            archive.extractall(tree, filter="data")
    return tree


def _git(*arguments: str) -> bytes:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if result.returncode:
        raise SystemExit(
            f"git {' '.join(arguments)}: {result.stderr.decode().strip()}\nThe earlier commit has to be in this clone: "
            "git fetch --unshallow, or name another with --before."
        )
    return result.stdout


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measure on each tree (default: 5)")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--output", type=Path, default=Path("runs/speed"), help="folder of the runs' files")
    parser.add_argument("--keep", action="store_true", help=f"write the results to {KEPT.relative_to(ROOT)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
