"""Pairs from published model responses: one model's wrong answer, another's right answer to the same question.

    python examples/mathvision_pairs.py FOLDER --output pairs.jsonl
    difference-feedback mask pairs.jsonl --html masks.html

FOLDER holds `testmini.jsonl` (`id, question`) and `responses/*.jsonl` (`id, model, response, correct`), prepared from
MATH-Vision: Wang et al., "Measuring Multimodal Mathematical Reasoning with MATH-Vision Dataset", NeurIPS 2024 Datasets
and Benchmarks, github.com/mathllm/MATH-V, MIT licence. It is test data: look at it, never train on it.

A right answer by another model is a stand-in for a repair. It is written anew from the first word, so its mask is far
larger than that of a repair made with few edits: this is what the repair model is for.
"""

import argparse
import sys
from operator import itemgetter
from pathlib import Path

from difference_feedback.method.alignment import edit_cost
from difference_feedback.report.mask_pairs import Pair, mask_pair
from difference_feedback.runs.jsonl import RowProblem, read_jsonl, write_jsonl

NEEDED = {"id": str, "model": str, "response": str, "correct": bool}


def make_pairs(folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Every wrong answer with the closest right one, closest pairs first, and what was wrong with rows left out."""
    complaints: list[str] = []

    def rows_of(path: Path, needed: dict[str, type]) -> list[dict[str, str]]:
        rows, problems = read_jsonl(path)
        good = []
        for line, values in rows:
            wrong = [field for field, kind in needed.items() if not isinstance(values.get(field), kind)]
            if wrong:
                problems.append(RowProblem(line, wrong[0], f"missing, or no {needed[wrong[0]].__name__}"))
            else:
                good.append(values)
        complaints.extend(f"{path.name} {problem}" for problem in problems)
        return good

    questions = {row["id"]: row["question"] for row in rows_of(folder / "testmini.jsonl", {"id": str, "question": str})}
    wrong: list[dict[str, str]] = []
    right: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.glob("responses/*.jsonl")):
        for row in rows_of(path, NEEDED):
            if row["correct"]:
                right.setdefault(row["id"], []).append(row)
            else:
                wrong.append(row)

    pairs = []
    for row in wrong:
        others = right.get(row["id"], [])
        if others:
            costs = [cost(row["response"], other["response"]) for other in others]
            closest = others[costs.index(min(costs))]
            pair = {
                "id": f"{row['id']}: {row['model']}, right: {closest['model']}",
                "question": questions.get(row["id"], "").replace("<image1>", "").strip(),
                "wrong": row["response"],
                "repaired": closest["response"],
            }
            pairs.append((min(costs), pair))
    return [pair for _, pair in sorted(pairs, key=itemgetter(0))], complaints


def cost(wrong: str, repaired: str) -> float:
    """Edit cost in words and signs."""
    return edit_cost(mask_pair(Pair(0, 0, wrong, repaired)).alignment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("pairs.jsonl"))
    options = parser.parse_args()
    pairs, complaints = make_pairs(options.folder)
    write_jsonl(options.output, pairs)
    print(f"{len(pairs)} pairs: {options.output}")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
