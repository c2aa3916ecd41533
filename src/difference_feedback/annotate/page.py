"""The page in Gradio: one tab to repair answers, one to review audits."""

import mimetypes
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from difference_feedback.annotate.feedback import feedback_html
from difference_feedback.annotate.items import images_of
from difference_feedback.annotate.projects import Progress, RepairProject, ReviewProject
from difference_feedback.data.image_files import data_url
from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import Agreement
from difference_feedback.judges.audit import MEANINGS, VERDICTS
from difference_feedback.report.mask_pairs import Tokenizer

HERE = Path(__file__).parent
CSS = (HERE / "page.css").read_text(encoding="utf-8")
SMALL = 160  # pixels: an image below this width is enlarged without smoothing
HEAD = f"<script>{(HERE / 'shortcuts.js').read_text(encoding='utf-8')}</script>"


def theme() -> Any:
    """A theme with the fonts of the reader's machine, so that the page fetches nothing."""
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def build_page(
    repairs: RepairProject | None, reviews: ReviewProject | None, annotator: str, tokenizer: Tokenizer | None = None
) -> gr.Blocks:
    """The page, with a tab for each kind of work. People who have logged in work under their own names."""
    with gr.Blocks(title="Difference Feedback: repair and review", analytics_enabled=False) as page:
        if repairs:
            with gr.Tab("Repair", id="repair"):
                _repair_tab(page, repairs, annotator, tokenizer)
        if reviews:
            with gr.Tab("Review", id="review"):
                _review_tab(page, reviews, annotator)
    return page


Show = Callable[..., list[Any]]


def _navigation(project: RepairProject | ReviewProject, annotator: str, show: Show) -> tuple[Show, Show]:
    """What a tab shows when the page is loaded, and after "Back"."""

    def start(request: gr.Request) -> list[Any]:
        name = _name(request, annotator)
        at = project.next(name)
        return show(at if at is not None else len(project.items) - 1, name)

    def previous(at: int, request: gr.Request) -> list[Any]:
        return show(max(0, at - 1), _name(request, annotator))

    return start, previous


def _name(request: gr.Request, annotator: str) -> str:
    return request.username or annotator


def _repair_tab(page: gr.Blocks, project: RepairProject, annotator: str, tokenizer: Tokenizer | None) -> None:
    place = gr.State(0)
    folder = project.output.path.parent
    progress = gr.HTML(elem_id="progress")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            images = gr.HTML(elem_id="images")
            question = gr.HTML(elem_id="question")
        with gr.Column(scale=5, min_width=420):
            editor = gr.Textbox(label="Repair the answer with as few changes as possible", lines=6, elem_id="editor")
            with gr.Row():
                save = gr.Button("Save and next", variant="primary", elem_id="save")
                skip = gr.Button("Skip", elem_id="skip")
                back = gr.Button("Back", elem_id="back")
            message = gr.HTML(elem_id="message")
            feedback = gr.HTML(elem_id="feedback")
    gr.HTML('<p class="df-keys">Keys: Ctrl+Enter saves and goes on · Alt+S skips · Alt+B goes back</p>')
    outputs = [place, progress, images, question, editor, feedback, message]

    def show(at: int | None, name: str, notice: str = "") -> list[Any]:
        """Everything on the page for item `at`. With None the last item stays, and a message says that all is done."""
        bar = progress_html(project.progress(name), name)
        if at is None:
            unchanged = [gr.skip()] * 4
            return [gr.skip(), bar, *unchanged, notice + message_html("All items are done. Thank you!")]
        item, text = project.items[at], project.text(name, at)
        feedback_part = feedback_html(item, text, tokenizer)
        return [at, bar, images_html(item, folder), question_html(item), text, feedback_part, notice]

    def saved(at: int, text: str, request: gr.Request) -> list[Any]:
        name = _name(request, annotator)
        try:
            project.save(name, at, text)
        except DataError as error:
            return [*[gr.skip()] * (len(outputs) - 1), message_html(str(error), wrong=True)]
        return show(project.next(name, at), name, message_html(f"Saved {project.items[at]['id']}."))

    def skipped(at: int, request: gr.Request) -> list[Any]:
        name = _name(request, annotator)
        project.skip(name, at)
        return show(project.next(name, at), name, message_html(f"Skipped {project.items[at]['id']}."))

    def typed(at: int, text: str) -> str:
        return feedback_html(project.items[at], text, tokenizer)

    start, previous = _navigation(project, annotator, show)
    page.load(start, None, outputs, show_progress="hidden")
    save.click(saved, [place, editor], outputs, show_progress="hidden")
    skip.click(skipped, [place], outputs, show_progress="hidden")
    back.click(previous, [place], outputs, show_progress="hidden")
    editor.input(typed, [place, editor], feedback, show_progress="hidden", trigger_mode="always_last")


def _review_tab(page: gr.Blocks, project: ReviewProject, annotator: str) -> None:
    place = gr.State(0)
    folder = project.audits.parent
    progress = gr.HTML(elem_id="review-progress")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            images = gr.HTML(elem_id="review-images")
            question = gr.HTML(elem_id="review-question")
        with gr.Column(scale=5, min_width=420):
            shown_pair = gr.HTML(elem_id="review-pair")
            choices = [(f"{verdict}: {MEANINGS[verdict]}", verdict) for verdict in VERDICTS]
            verdict = gr.Radio(choices, label="Your verdict on the repair", elem_id="verdict")
            note = gr.Textbox(label="Note (optional)", elem_id="note")
            with gr.Row():
                save = gr.Button("Save and next", variant="primary", elem_id="review-save")
                back = gr.Button("Back", elem_id="review-back")
            message = gr.HTML(elem_id="review-message")
            agreement = gr.HTML(elem_id="agreement")
    gr.HTML('<p class="df-keys">Keys: 1 to 4 choose a verdict · Ctrl+Enter saves and goes on · Alt+B goes back</p>')
    outputs = [place, progress, images, question, shown_pair, verdict, note, message, agreement]

    def show(at: int | None, name: str, notice: str = "") -> list[Any]:
        bar, agreed = progress_html(project.progress(name), name), agreement_html(project.agreement())
        if at is None:
            unchanged = [gr.skip()] * 5
            return [gr.skip(), bar, *unchanged, notice + message_html("All repairs are reviewed. Thank you!"), agreed]
        item = project.items[at]
        pair = feedback_html({"id": item["id"], "draft": item["draft"]}, item["repair"])
        earlier = project.verdicts(name).get(item["id"])
        return [at, bar, images_html(item, folder), question_html(item), pair, earlier, "", notice, agreed]

    def saved(at: int, chosen: str | None, text: str, request: gr.Request) -> list[Any]:
        name = _name(request, annotator)
        try:
            project.save(name, at, chosen or "", text)
        except DataError as error:
            return [*[gr.skip()] * (len(outputs) - 2), message_html(str(error), wrong=True), gr.skip()]
        return show(project.next(name, at), name, message_html(f"Saved {project.items[at]['id']}."))

    start, previous = _navigation(project, annotator, show)
    page.load(start, None, outputs, show_progress="hidden")
    save.click(saved, [place, verdict, note], outputs, show_progress="hidden")
    back.click(previous, [place], outputs, show_progress="hidden")


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
    """The images as data URLs, so that the server need not serve any file."""
    parts = []
    for name in images_of(item):
        path = folder / name
        url = data_url(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "image/png")
        with Image.open(path) as image:
            small = " class='small'" if image.width < SMALL else ""
        parts.append(f'<img{small} src="{escape(url)}" alt="image of the question">')
    return f'<div class="df-images">{"".join(parts)}</div>'


def message_html(text: str, wrong: bool = False) -> str:
    return f'<p class="df-message{" wrong" if wrong else ""}" role="status">{escape(text)}</p>'


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
