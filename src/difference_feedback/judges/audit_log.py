"""The audits of a run as a file that people can review, and what they amount to.

`audits.jsonl`, one audited repair a row; images lie beside it, each once:

    {"id", "step", "question", "image": ["audit_images/….png"], "draft", "repair", "reference",
     "verdict", "evidence", "reason", "auditor"}

A verdict of null is an outage: the auditor could not be asked.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.judges.audit import VERDICTS, AuditCase, AuditResult
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.jsonl import JsonLines, read_rows, write_jsonl

IMAGES = "audit_images"


class AuditLog:
    """Appends to `audits.jsonl` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audits.jsonl"

    def write(self, step: int, auditor: str, cases: Sequence[AuditCase], results: Sequence[AuditResult]) -> None:
        """One row a case, in one piece."""
        rows = []
        for case, result in zip(cases, results, strict=True):
            row = {
                "id": _digest(f"{step}\0{case.question}\0{case.draft}\0{case.repair}".encode()),
                "step": step,
                "question": case.question,
                "image": [self._keep(image) for image in case.images],
                "draft": case.draft,
                "repair": case.repair,
                "reference": case.reference,
                "verdict": result.verdict,
                "evidence": result.evidence,
                "reason": result.reason,
                "auditor": auditor,
            }
            rows.append(row)
        if rows:
            JsonLines(self.path).append(*rows)

    def rewind(self, step: int) -> None:
        """Forget audits from `step` on: a resumed run makes them again."""
        if self.path.is_file():
            write_jsonl(self.path, [row for row in read_rows(self.path) if row["step"] < step])

    def _keep(self, image: Image.Image) -> str:
        """The image's file, written where it is not there yet."""
        name = f"{IMAGES}/{_digest(image.mode.encode() + str(image.size).encode() + image.tobytes())}.png"
        path = self.path.parent / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        return name


@dataclass(frozen=True)
class AuditStatistics:
    """What an auditor found in one run. Shares are of the repairs that it judged."""

    judged: int
    outages: int
    hits: dict[str, int]
    """Repairs by failure mode, `clean` left out."""
    hit_rate: float | None
    hit_rate_interval: tuple[float, float]
    """95 %, Wilson."""

    def summary(self) -> dict[str, Any]:
        """As plain values, for summary.json."""
        share = {mode: count / self.judged for mode, count in self.hits.items()} if self.judged else {}
        return {
            **{"judged": self.judged, "outages": self.outages, "hits": self.hits, "hit_shares": share},
            **{"hit_rate": self.hit_rate, "hit_rate_interval": list(self.hit_rate_interval)},
        }


def audit_statistics(verdicts: Sequence[str | None]) -> AuditStatistics:
    """Count verdicts; None is an outage."""
    counts = Counter(verdict for verdict in verdicts if verdict is not None)
    judged = counts.total()
    hits: dict[str, int] = {mode: counts[mode] for mode in VERDICTS if mode != "clean"}
    found = sum(hits.values())
    return AuditStatistics(
        judged, len(verdicts) - judged, hits, found / judged if judged else None, wilson_interval(found, judged)
    )


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()[:12]
