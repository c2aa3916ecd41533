"""The parts of the page in HTML. Everything that comes from data is escaped."""

import mimetypes
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from difference_feedback.annotate.drafted import DraftedRepair
from difference_feedback.annotate.feedback import sign, word_cost
from difference_feedback.annotate.item_check import image_path, images_of
from difference_feedback.annotate.saving import Progress
from difference_feedback.data.image_files import data_url, open_image, png_bytes
from difference_feedback.data.image_limits import REFUSED_PIXELS
from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import Agreement

REWRITE = 0.5  # edit cost above which a drafted repair keeps less of the wrong answer than it changes
LARGE = 16_000_000  # bytes: a larger file is sent with fewer pixels
SMALL = 160  # pixels: an image below this width is enlarged without smoothing
BROWSERS_SHOW = ("image/png", "image/jpeg", "image/gif", "image/webp")


def progress_html(progress: Progress, name: str) -> str:
    total = max(1, progress.done + progress.skipped + progress.remaining)
    skipped = f", {progress.skipped} skipped" if progress.skipped else ""
    return (
        f'<div class="df-progress"><span style="width:{100 * progress.done / total:.1f}%"></span></div>'
        f"<p>{progress.done} of {total} done{skipped}, {progress.remaining} remaining · {escape(name)}</p>"
    )


def question_html(item: Mapping[str, Any]) -> str:
    """The question with its options, reference and annotated answer. All of it is escaped."""
    rows = [
        ("Question", item["question"]),
        ("A right answer in full", item.get("reference")),
        ("Annotated answer", item.get("answer")),
    ]
    options = [str(option) for option in item.get("options") or []]
    if not all(option in item["question"] for option in options):
        rows.insert(1, ("Options", "\n".join(f"{chr(65 + i)}. {option}" for i, option in enumerate(options))))
    parts = [f"<dt>{name}</dt><dd>{escape(str(text))}</dd>" for name, text in rows if text]
    return f'<dl class="df-item">{"".join(parts)}</dl>'


def images_html(item: Mapping[str, Any], folder: Path) -> str:
    """The images as data URLs, so that the server need not serve any file. A message stands for an unreadable one."""
    return f'<div class="df-images">{"".join(_image_html(folder, name) for name in images_of(item))}</div>'


def _image_html(folder: Path, name: str) -> str:
    try:
        path = image_path(folder, name)  # it may have become a link since the row was checked
        is_large = path.stat().st_size > LARGE
        image = open_image(path, min_side=1, max_pixels=LARGE // 4 if is_large else REFUSED_PIXELS).image
        kind = mimetypes.guess_type(path.name)[0]
        as_it_is = kind in BROWSERS_SHOW and not is_large
        url = data_url(path.read_bytes(), str(kind)) if as_it_is else data_url(png_bytes(image))
    except (DataError, OSError, ValueError) as error:
        return message_html(f"The image {name} cannot be shown: {error} You can skip this item.", wrong=True)
    small = " class='small'" if image.width < SMALL else ""
    return f'<img{small} src="{escape(url)}" alt="image of the question">'


def offer_html(item: Mapping[str, Any], drafted: DraftedRepair) -> str:
    """Says plainly that a repair is drafted, by whom, and what the grader and the edit cost say of it."""
    cost = word_cost(item["draft"], drafted.text)
    rewrite = " <b>This rewrites the answer rather than repairs it.</b>" if cost > REWRITE else ""
    return (
        f'<p class="df-offer"><b>Drafted</b> by {escape(drafted.by)}; no person has checked it. '
        f"{sign(item, drafted.text)}, edit cost {cost:.3f} in words from the wrong answer. "
        f"No grader reads the steps: check each of them against the image.{rewrite}</p>"
    )


def whole(text: str) -> str:
    """A text that can be sent to a page: `�` stands for half of a surrogate pair, which would end the connection."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def message_html(text: str, wrong: bool = False) -> str:
    return f'<p class="df-message{" wrong" if wrong else ""}" role="status">{escape(whole(text))}</p>'


def other_text_html(title: str, text: str) -> str:
    """A text to read and to copy, under a title."""
    return f'<p class="df-message">{escape(title)}:</p><pre class="df-text">{escape(whole(text))}</pre>'


def agreement_html(agreement: Agreement | None) -> str:
    """How far reviewers and the auditor agree; None when there are no reviews."""
    if agreement is None:
        return '<p class="df-agreement">The agreement with the auditor appears here after the first review.</p>'
    low, high = agreement.raw_interval
    kappa = "is not defined yet"
    if agreement.kappa is not None and agreement.kappa_interval is not None:
        kappa_low, kappa_high = agreement.kappa_interval
        kappa = f"<b>{agreement.kappa:.2f}</b> ({kappa_low:.2f} to {kappa_high:.2f})"
    rows = [
        f"<tr><td>{escape(auditor)}</td><td>{escape(human)}</td><td>{count}</td></tr>"
        for auditor, row in agreement.confusion.items()
        for human, count in row.items()
    ]
    return (
        f'<div class="df-agreement"><p>Agreement with the auditor on {agreement.n} reviews: <b>{agreement.raw:.0%}</b> '
        f"({low:.0%} to {high:.0%}); Cohen's kappa {kappa}</p>"
        f"<table><tr><th>auditor</th><th>reviewer</th><th>repairs</th></tr>{''.join(rows)}</table></div>"
    )
