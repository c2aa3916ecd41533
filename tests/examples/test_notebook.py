"""The notebook runs from its first cell to its last, shows what its file holds, and what it says is so."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from examples.execute_notebook import execute

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "one_wrong_answer.ipynb"
CHECKS = """
from difference_feedback.models.scoring import answer_logps

# The wrong answer is wrong, the repair is right, and the mask is where the errors are.
assert not is_correct(problem, draft.text) and is_correct(problem, pair.repair.text)
assert pair.edit_cost == min(edit_cost(align(draft.token_ids, c.token_ids)) for c in candidates[0] if c.reward == 1)
assert mask.tolist() == errors.tolist() and 0 < mask.sum() < len(mask)
assert (columns["hard"] == mask).all() and np.allclose(columns["soft, σ = 2"][:7], np.exp(-np.arange(6, -1, -1) / 2))

# The group is Y- and its repairs; its rewards are half 0 and half 1.
assert [(m.row, m.is_repair) for m in members] == [(0, False), (0, True), (4, False), (4, True)]
deviation = np.std([0, 1, 0, 1], ddof=1)
assert np.allclose([m.advantage for m in members], np.array([-1, 1, -1, 1]) / 2 / deviation, atol=1e-3)
assert len(grpo_members) == 8 and abs(sum(m.advantage for m in grpo_members)) < 1e-9

# The gradient is -A / |o| / rows where the weight is 1, and exactly 0 where it is 0. [DF, Eqs. 10, 22]
wrong_gradient, repair_gradient = gradients["DF-GRPO"][0, : len(mask)], gradients["DF-GRPO"][1, : len(repair_mask)]
assert (wrong_gradient != 0).tolist() == mask.tolist() and (repair_gradient != 0).tolist() == repair_mask.tolist()
assert torch.allclose(wrong_gradient[mask], torch.tensor(-members[0].advantage / len(mask) / 4).float())
of_grpo = torch.tensor(-grpo_members[0].advantage / len(mask) / 8).float()
assert torch.allclose(gradients["GRPO"][0, : len(mask)], of_grpo)

# Its log-probabilities are those of the package's own scoring.
scores = answer_logps(policy, processor, [problem.prompt] * 2, [problem.images] * 2, both)
assert all(np.allclose(before.log()[i, : len(both[i])], scores[i], atol=1e-4) for i in range(2))

# What the text says of the update.
assert after["DF-GRPO"][0, value] < 0.7 * before[0, value] < after["GRPO"][0, value]
assert after["GRPO"][0, 0] < before[0, 0] - 0.02 and abs(after["DF-GRPO"][0, 0] - before[0, 0]) < 0.02
assert all(probability[1, last] < before[1, last] - 0.02 for probability in after.values())
"""


@pytest.mark.slow
def test_it_runs_and_shows_what_its_file_holds() -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = execute(NOTEBOOK, CHECKS)
    for old, new in zip(committed.cells, executed.cells, strict=True):
        if old.cell_type == "code":
            again = f"{old.id}: execute it again by tests/examples/execute_notebook.py"
            (old_words, old_numbers), (new_words, new_numbers) = shown(old), shown(new)
            assert old_words == new_words, again
            for one, other in zip(old_numbers, new_numbers, strict=True):
                unit = 10.0 ** -len(one.partition(".")[2])
                assert abs(float(one) - float(other)) < 2.5 * unit, again


def shown(cell: Any) -> tuple[list[str], list[str]]:
    """Words and decimal numbers of a cell's outputs. Bars are left out: their numbers stand beside them."""
    texts = []
    for output in cell.outputs:
        assert output.get("name") != "stderr", output
        data = output.get("data", {})
        texts.append(output.get("text") or data.get("text/html") or f"an image: {'image/png' in data}")
    text = re.sub("█+", "█", "\n".join(texts)).replace("█", "")
    number = r"-?\d+\.\d+"
    return re.split(number, text), re.findall(number, text)


def test_its_file_is_small_and_holds_nothing_of_the_machine_that_ran_it() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert len(text) < 400_000
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not any(cell["metadata"] for cell in notebook["cells"])
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/|0x[0-9a-f]{6}|\b20\d\d-\d\d-\d\d", outputs)


def test_its_links_lead_to_files() -> None:
    prose = "\n".join(c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "markdown")
    links = re.findall(r"\]\((?!http)([^)#]+)\)", prose)
    assert links
    for link in links:
        assert (EXAMPLES / link).is_file(), link
