"""docs/reference/file_formats.md: its rows are read by the real readers, have the fields of its tables, and it names
every file of a run."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from difference_feedback.annotate.items import load_work
from difference_feedback.annotate.responses import read_responses
from difference_feedback.bench.results import load_results
from difference_feedback.data.dataset import read_data
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.judges.agreement import run_agreement
from difference_feedback.judges.grading import grade_file
from difference_feedback.policy.evaluation import Prediction
from difference_feedback.report.data import BenchCell, CurvePoint, Example, MethodResult, Summary
from difference_feedback.report.mask_file import mask_file
from difference_feedback.report.mask_pairs import mask_pair
from difference_feedback.report.metrics.registry import metric_of
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.own_files import FILES, FOLDERS, PICTURES
from difference_feedback.runs.sections import Data

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "file_formats.md").read_text(encoding="utf-8")
IMAGE = ROOT / "examples" / "mathvision_starter" / "images" / "4.jpg"


@dataclass
class Section:
    """What stands under a heading: the rows, the fields of each row's own tables, and those of all tables."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    needed: list[set[str]] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)


def sections() -> dict[str, Section]:
    by_title: dict[str, Section] = {}
    for title, text in re.findall(r"^#{2,3} (.+?)\n(.*?)(?=^#{2,3} |\Z)", PAGE, re.DOTALL | re.MULTILINE):
        section = by_title[title] = Section()
        needed: set[str] = set()
        for line in text.splitlines():
            if line.startswith("{"):
                section.rows.append(json.loads(line))
                section.needed.append(needed)
                needed = set()
            elif line.startswith("| `"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                names = set(re.findall(r"`(\w+)`", cells[0]))
                section.fields |= names
                needed |= names if cells[2] == "yes" else set()
    return by_title


SECTIONS = sections()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write rows of a section to a file, with an image at every path that they name."""

    def to_file(title: str, name: str, number: int = 0) -> Path:
        row = SECTIONS[title].rows[number]
        images = row.get("image") or []
        for image in [images] if isinstance(images, str) else images:
            (tmp_path / image).parent.mkdir(exist_ok=True)
            shutil.copy(IMAGE, tmp_path / image)
        path = tmp_path / name
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        return path

    return to_file


def test_rows_have_the_fields_of_their_tables() -> None:
    """Items are in docs/annotation_format.md; summaries and rows of a log have what the registry of metrics lists."""
    with_rows = {title: section for title, section in SECTIONS.items() if section.rows and title != "Items"}
    assert len(with_rows) == 12
    for title, section in with_rows.items():
        for row, needed in zip(section.rows, section.needed, strict=True):
            assert needed <= set(row), title
            assert {name for name in set(row) - section.fields if not metric_of(name, "evaluate")} == set(), title


def test_questions_and_repair_sets_are_read(write: Callable[..., Path]) -> None:
    loaded = read_data(Data(path=str(write("Questions", "questions.jsonl"))))
    [question] = loaded.questions()
    assert (question.id, question.answer, len(question.images)) == ("17", "red", 1)
    [row] = load_repair_set(write("Repair sets", "repairs.jsonl")).rows
    assert (row.id, len(row.images)) == ("4", 1)


def test_responses_items_audits_and_reviews_are_read(write: Callable[..., Path]) -> None:
    [response], _ = read_responses([write("Responses", "responses.jsonl")])
    assert (response.question, response.source) == ("4", "InternLM-XComposer2-VL")
    assert load_work(write("Items", "items.jsonl"), "draft").rows[0]["id"] == "4"
    audits = write("Audits", "audits.jsonl")
    assert load_work(audits, "repair").rows[0]["verdict"] == "clean"
    agreement = run_agreement(audits, write("Reviews", "reviews.jsonl"))
    assert agreement is not None
    assert agreement.raw == 1.0


def test_pairs_are_masked_and_answers_graded_as_the_page_says(write: Callable[..., Path], tmp_path: Path) -> None:
    mask_file(write("Pairs", "pairs.jsonl"), tmp_path / "masks.jsonl", mask_pair)
    assert read_rows(tmp_path / "masks.jsonl") == [SECTIONS["Pairs"].rows[1]]
    grade_file(write("Rows to grade", "rows.jsonl"), tmp_path / "graded.jsonl")
    assert read_rows(tmp_path / "graded.jsonl") == [SECTIONS["Rows to grade"].rows[1]]


def test_results_of_runs_are_read(write: Callable[..., Path]) -> None:
    [row] = SECTIONS["summary.json"].rows
    assert Summary.model_validate(row).cost is not None
    assert MethodResult.model_validate(row).steps == 417
    assert CurvePoint.model_validate(SECTIONS["CurvePoint"].rows[0]).accuracy == row["base_accuracy"]
    assert Example.model_validate(SECTIONS["Example"].rows[0]).edit_cost == 0.5
    [result] = load_results(write("Results of a bench", "results.jsonl"))
    assert BenchCell.model_validate(result).label == "DF-GRPO"
    [prediction] = SECTIONS["predictions"].rows
    given = {name: prediction[name] for name in ("task", "question", "answer", "response", "correct", "id", "cut_off")}
    assert Prediction(**given).as_row(1) == prediction


def test_every_file_of_a_run_is_named() -> None:
    folders = {name.replace(r"(-checkpoint-\d+)?", "") for name in FOLDERS.pattern.split("|")}
    for name in {*FILES, *PICTURES, *folders}:
        assert re.search(rf"`{re.escape(name)}[`/]", PAGE), name
