"""The audits of a run: a file that people can review, and its statistics.

`audits.jsonl` has one row for each audited repair. Images lie in files beside it, each stored once:

    {"id", "step", "question", "image": ["audit_images/….png"], "draft", "repair", "reference",
     "verdict", "evidence", "reason", "auditor"}

A verdict of null is an outage: the auditor gave no usable verdict. An auditor of null is none at all: the repair waits
for people.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.data.conversations import shown_marks
from difference_feedback.data.saved_images import save_png
from difference_feedback.judges.audit import VERDICTS, AuditCase, AuditResult
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.jsonl import JsonLines, read_rows, write_jsonl
from difference_feedback.runs.outputs import ESCAPE

IMAGES = "audit_images"


class AuditLog:
    """Appends to `audits.jsonl` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audits.jsonl"

    def write(
        self, step: int, auditor: str | None, cases: Sequence[AuditCase], results: Sequence[AuditResult]
    ) -> list[str]:
        """Append one row for each case, all in a single write, and return their ids.

        Without an `auditor` the rows wait for people.
        """
        rows: list[dict[str, Any]] = []
        seen: Counter[str] = Counter()
        for case, result in zip(cases, results, strict=True):
            images = [self._keep(image) for image in case.images]
            content = "\0".join([str(step), case.question, case.draft, case.repair, *images])
            number = f"\0{seen[content]}" if seen[content] else ""  # equal answers of one group
            seen[content] += 1
            rows.append(
                {
                    "id": _digest(f"{content}{number}".encode("utf-8", ESCAPE)),
                    "step": step,
                    "question": shown_marks(case.question),
                    "image": images,
                    "draft": case.draft,
                    "repair": case.repair,
                    "reference": case.reference,
                    **asdict(result),
                    "auditor": auditor,
                }
            )
        if rows:
            JsonLines(self.path).append(*rows)
        return [str(row["id"]) for row in rows]

    def rewind(self, step: int) -> None:
        """Delete the audits from `step` on, because a resumed run makes them again."""
        if self.path.is_file():
            write_jsonl(self.path, [row for row in read_rows(self.path) if row.get("step", 0) < step])

    def _keep(self, image: Image.Image) -> str:
        """Name of the image's file, which is written unless it exists."""
        name = f"{IMAGES}/{_digest(image.mode.encode() + str(image.size).encode() + image.tobytes())}.png"
        path = self.path.parent / name
        if not path.is_file():
            save_png(image, path)
        return name


@dataclass(frozen=True)
class AuditStatistics:
    """What an auditor found in one run. Shares refer to the repairs that it judged."""

    judged: int
    """Repairs with a verdict."""
    outages: int = 0
    """Repairs without a verdict, because the auditor failed."""
    hits: dict[str, int] = field(default_factory=dict)
    """Number of repairs by failure mode, without `clean`."""
    hit_rate: float | None = None
    """Share of the judged repairs with a fault."""
    hit_rate_interval: tuple[float, float] | None = None
    """95 % interval, Wilson's."""

    def summary(self) -> dict[str, Any]:
        """As plain values, for summary.json."""
        shares = {mode: count / self.judged for mode, count in self.hits.items()} if self.judged else {}
        return asdict(self) | {"hit_shares": shares}


def audit_statistics(verdicts: Sequence[str | None]) -> AuditStatistics:
    """Count the verdicts; None is an outage."""
    counts = Counter(verdict for verdict in verdicts if verdict is not None)
    judged = counts.total()
    hits: dict[str, int] = {mode: counts[mode] for mode in VERDICTS if mode != "clean"}
    total = sum(hits.values())
    return AuditStatistics(
        judged=judged,
        outages=len(verdicts) - judged,
        hits=hits,
        hit_rate=total / judged if judged else None,
        hit_rate_interval=wilson_interval(total, judged),
    )


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()[:12]
