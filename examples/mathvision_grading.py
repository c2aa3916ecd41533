"""The rule-based grader against published verdicts: agreement, speed, and every disagreement.

    python examples/mathvision_grading.py FOLDER

FOLDER holds `testmini.jsonl` (`id, answer, options`) and `responses/*.jsonl` (`id, model, response, model_answer,
correct`), prepared from MATH-Vision (see `mathvision_pairs.py` for the source). The table is in
docs/reference/grading.md.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from difference_feedback.judges.rules import grade
from difference_feedback.runs.jsonl import read_jsonl


def rows_of(path: Path) -> list[dict]:
    rows, problems = read_jsonl(path)
    for problem in problems:
        print(f"{path.name}, left out: {problem}")
    return [values for _, values in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    questions = {row["id"]: row for row in rows_of(folder / "testmini.jsonl")}
    responses = [row for path in sorted(folder.glob("responses/*.jsonl")) for row in rows_of(path)]

    gradings, slowest = [], 0.0
    start = time.perf_counter()
    for row in responses:
        begin = time.thread_time()
        gradings.append(grade(row["response"], questions[row["id"]]["answer"], questions[row["id"]]["options"]))
        slowest = max(slowest, time.thread_time() - begin)
    seconds = time.perf_counter() - start
    differ = [(row, g) for row, g in zip(responses, gradings, strict=True) if g.correct != row["correct"]]
    agreement = 1 - len(differ) / len(responses)
    print(f"{len(responses)} responses, {len(responses) / seconds:.0f} a second, the slowest in {slowest * 1e3:.1f} ms")
    print(
        f"Agreement {agreement:.1%} ({len(responses) - len(differ)}). Rules: {dict(Counter(g.rule for g in gradings))}"
    )
    print("| question, model | extracted | annotated | published, on its own extraction | ours |")
    print("|---|---|---|---|---|")
    for row, found in differ:
        question = questions[row["id"]]
        answer, options = question["answer"], question["options"]
        text = f" ({options[ord(answer) - 65]})" if options and options[ord(answer) - 65] != answer else ""
        verdicts = [("correct" if verdict else "wrong") for verdict in (row["correct"], found.correct)]
        cells = [f"{row['id']}, {row['model']}", f"`{found.extracted}`", f"{answer}{text}"]
        print(
            "| "
            + " | ".join([*cells, f"{verdicts[0]}: `{row['model_answer']}`", f"{verdicts[1]}, {found.rule}"])
            + " |"
        )


if __name__ == "__main__":
    main()
