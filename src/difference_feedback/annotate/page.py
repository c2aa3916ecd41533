"""The page in Gradio: one tab to repair answers, one to review audits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from difference_feedback.annotate.drafted import DraftedRepair
from difference_feedback.annotate.feedback import feedback_html, is_right
from difference_feedback.annotate.page_parts import (
    agreement_html,
    images_html,
    message_html,
    offer_html,
    progress_html,
    question_html,
)
from difference_feedback.annotate.projects import RepairProject, ReviewProject
from difference_feedback.errors import DataError
from difference_feedback.judges.audit import MEANINGS, VERDICTS
from difference_feedback.report.mask_pairs import Tokenizer

HERE = Path(__file__).parent
CSS = (HERE / "page.css").read_text(encoding="utf-8")
POLL = 1.5  # seconds between two looks for a drafted repair that is being made
WRONG = "The grader calls this repair wrong. Correct it, or save it once more to keep it all the same."
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


Updates = dict[Any, Any]
"""Component -> its new value."""
Show = Callable[..., Updates]


def _navigation(project: RepairProject | ReviewProject, annotator: str, show: Show) -> tuple[Show, Show]:
    """What a tab shows when the page is loaded, and after "Back"."""

    def start(request: gr.Request) -> Updates:
        name = _name(request, annotator)
        at = project.next(name)
        return show(at if at is not None else len(project.items) - 1, name)

    def previous(at: int, request: gr.Request) -> Updates:
        return show(max(0, at - 1), _name(request, annotator))

    return start, previous


def _name(request: gr.Request, annotator: str) -> str:
    return request.username or annotator


def _repair_tab(page: gr.Blocks, project: RepairProject, annotator: str, tokenizer: Tokenizer | None) -> None:
    place, shown_draft, warned = gr.State(0), gr.State(None), gr.State(None)
    offers = project.drafted.exist
    progress = gr.HTML(elem_id="progress")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            images = gr.HTML(elem_id="images")
            question = gr.HTML(elem_id="question")
        with gr.Column(scale=5, min_width=420):
            offer = gr.HTML(elem_id="offer", visible=offers)
            editor = gr.Textbox(label="Repair the answer with as few changes as possible", lines=6, elem_id="editor")
            with gr.Row(visible=offers):
                accept = gr.Button("Accept the drafted repair", elem_id="accept", size="sm")
                take_draft = gr.Button("Start from it", elem_id="take-draft", size="sm")
                take_wrong = gr.Button("Start from the wrong answer", elem_id="take-wrong", size="sm")
            with gr.Row():
                save = gr.Button("Save and next", variant="primary", elem_id="save")
                skip = gr.Button("Skip", elem_id="skip")
                back = gr.Button("Back", elem_id="back")
            message = gr.HTML(elem_id="message")
            feedback = gr.HTML(elem_id="feedback")
    keys = "Ctrl+Enter saves and goes on · Alt+S skips · Alt+B goes back"
    if offers:
        keys += " · Alt+A accepts the drafted repair · Alt+D starts from it · Alt+W starts from the wrong answer"
    gr.HTML(f'<p class="df-keys">Keys: {keys}</p>')
    corrections = gr.HTML(elem_id="corrections")
    timer = gr.Timer(POLL, active=False)

    def show(at: int | None, name: str, notice: str = "") -> Updates:
        """Everything on the page for item `at`. With None the last item stays, and a message says that all is done."""
        updates = {
            progress: progress_html(project.progress(name), name),
            corrections: "".join(map(message_html, map(str, project.corrections()))),
            warned: None,
        }
        if at is None:
            return updates | {message: notice + message_html("All items are done. Thank you!")}
        project.drafted.want(at)
        item, drafted = project.items[at], project.drafted.of(project.items[at])
        text = project.text(name, at, drafted)
        return updates | {
            place: at,
            images: images_html(item, project.folder),
            question: question_html(item),
            message: notice,
            **offered(at, drafted),
            **edited(at, text, drafted),
        }

    def offered(at: int, drafted: DraftedRepair | None) -> Updates:
        item = project.items[at]
        html = offer_html(item, drafted) if drafted else message_html(project.drafted.reason(item))
        waits = drafted is None and project.drafted.awaited(item)
        return {shown_draft: drafted, offer: html, timer: gr.Timer(active=waits)}

    def edited(at: int, text: str, drafted: DraftedRepair | None) -> Updates:
        return {editor: text, feedback: typed(at, text, drafted)}

    def typed(at: int, text: str, drafted: DraftedRepair | None) -> str:
        item = project.items[at]
        return feedback_html(item, text, tokenizer, drafted.text if drafted and drafted.id == item["id"] else None)

    def waited(at: int) -> Updates:
        """The drafted repair is shown when it is there. The editor stays as it is, since someone may be typing."""
        drafted = project.drafted.of(project.items[at])
        if drafted is None and project.drafted.awaited(project.items[at]):
            return {timer: gr.skip()}
        return offered(at, drafted)

    def saved(at: int, text: str, drafted: DraftedRepair | None, warned_of: Any, request: gr.Request) -> Updates:
        name, item = _name(request, annotator), project.items[at]
        wrong = is_right(item, text) is False
        try:
            project.check(at, text)
            if wrong and warned_of != (at, text):
                return {warned: (at, text), message: message_html(WRONG, wrong=True)}
            project.save(name, at, text, drafted if drafted and drafted.id == item["id"] else None)
        except DataError as error:
            return {message: message_html(str(error), wrong=True)}
        notice = f"Saved {item['id']}" + (", which the grader calls wrong." if wrong else ".")
        return show(project.next(name, at), name, message_html(notice, wrong))

    def accepted(at: int, text: str, drafted: DraftedRepair | None, warned_of: Any, request: gr.Request) -> Updates:
        item = project.items[at]
        if drafted is None or drafted.id != item["id"]:
            return {message: message_html("There is no drafted repair to accept.", wrong=True)}
        if text.strip() not in (item["draft"].strip(), drafted.text):
            notice = "You have changed the text. Save it, or start from the drafted repair before you accept it."
            return {message: message_html(notice, wrong=True)}
        return edited(at, drafted.text, drafted) | saved(at, drafted.text, drafted, warned_of, request)

    def skipped(at: int, request: gr.Request) -> Updates:
        name = _name(request, annotator)
        project.skip(name, at)
        return show(project.next(name, at), name, message_html(f"Skipped {project.items[at]['id']}."))

    def from_draft(at: int, drafted: DraftedRepair | None) -> Updates:
        return edited(at, drafted.text, drafted) if drafted and drafted.id == project.items[at]["id"] else {}

    def from_wrong(at: int, drafted: DraftedRepair | None) -> Updates:
        return edited(at, project.items[at]["draft"], drafted)

    start, previous = _navigation(project, annotator, show)
    everything = [place, progress, images, question, editor, feedback, message, shown_draft, offer, timer, warned]
    outputs: dict[str, Any] = {"outputs": [*everything, corrections], "show_progress": "hidden"}
    page.load(start, None, **outputs)
    save.click(saved, [place, editor, shown_draft, warned], **outputs)
    accept.click(accepted, [place, editor, shown_draft, warned], **outputs)
    skip.click(skipped, [place], **outputs)
    back.click(previous, [place], **outputs)
    take_draft.click(from_draft, [place, shown_draft], **outputs)
    take_wrong.click(from_wrong, [place, shown_draft], **outputs)
    timer.tick(waited, [place], [shown_draft, offer, timer], show_progress="hidden")
    editor.input(typed, [place, editor, shown_draft], feedback, show_progress="hidden", trigger_mode="always_last")


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

    def show(at: int | None, name: str, notice: str = "") -> Updates:
        bars = {progress: progress_html(project.progress(name), name), agreement: agreement_html(project.agreement())}
        if at is None:
            return bars | {message: notice + message_html("All repairs are reviewed. Thank you!")}
        item = project.items[at]
        return bars | {
            place: at,
            images: images_html(item, folder),
            question: question_html(item),
            shown_pair: feedback_html({"id": item["id"], "draft": item["draft"]}, item["repair"]),
            verdict: project.verdicts(name).get(item["id"]),
            note: "",
            message: notice,
        }

    def saved(at: int, chosen: str | None, text: str, request: gr.Request) -> Updates:
        name = _name(request, annotator)
        try:
            project.save(name, at, chosen or "", text)
        except DataError as error:
            return {message: message_html(str(error), wrong=True)}
        return show(project.next(name, at), name, message_html(f"Saved {project.items[at]['id']}."))

    start, previous = _navigation(project, annotator, show)
    page.load(start, None, outputs, show_progress="hidden")
    save.click(saved, [place, verdict, note], outputs, show_progress="hidden")
    back.click(previous, [place], outputs, show_progress="hidden")
