"""The tab in which people repair wrong answers."""

from typing import Any

import gradio as gr

from difference_feedback.annotate.drafted import DraftedRepair
from difference_feedback.annotate.feedback import feedback_html, is_right
from difference_feedback.annotate.page_parts import (
    images_html,
    message_html,
    offer_html,
    other_text_html,
    progress_html,
    question_html,
    whole,
)
from difference_feedback.annotate.projects import COUNTED, RepairProject
from difference_feedback.annotate.shown import Shown, StaleError, digest
from difference_feedback.annotate.turns import ONE_BY_ONE, Updates, name_of, spoken
from difference_feedback.report.mask_pairs import Tokenizer

POLL = 1.5  # seconds between two looks for a drafted repair that is being made
WRONG = "The grader calls this repair wrong. Correct it, or save it once more to keep it all the same."


def repair_tab(page: gr.Blocks, repairs: RepairProject | None, annotator: str, tokenizer: Tokenizer | None) -> None:
    """Build the tab. Without a project it is hidden, so that its events keep their numbers over all servers."""
    # What is shown is kept by the browser: a server that is started anew does not know it.
    shown, shown_draft = (gr.Textbox(visible="hidden", elem_id=name) for name in ("shown", "shown-draft"))
    current, warned = gr.State(None), gr.State(None)
    offers = repairs is not None and repairs.drafted.exist
    progress = gr.HTML(elem_id="progress")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            images = gr.HTML(elem_id="images")
            question = gr.HTML(elem_id="question")
        with gr.Column(scale=5, min_width=320):
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
            kept = gr.Textbox(label="Your texts that were not saved", visible=False, interactive=False, elem_id="kept")
            feedback = gr.HTML(elem_id="feedback")
    keys = "Ctrl+Enter saves and goes on · Alt+S skips · Alt+B goes back"
    if offers:
        keys += " · Alt+A accepts the drafted repair · Alt+D starts from it · Alt+W starts from the wrong answer"
    gr.HTML(f'<p class="df-keys">Keys: {keys}</p>')
    corrections = gr.HTML(elem_id="corrections")
    timer = gr.Timer(POLL, active=False)
    handled = spoken(message, repairs, "wrong answers")

    def project() -> RepairProject:
        assert repairs is not None  # `handled` sees to that
        return repairs

    def show(place: int | None, name: str, notice: str = "", stay: int = 0) -> Updates:
        """Everything on the page for an item. With None that at `stay` stays, and a message says that all is done."""
        figures = list(map(str, project().corrections(COUNTED)))
        if project().uncounted:
            figures.append(f"{project().uncounted} more saved repairs are being counted.")
        updates = {
            progress: progress_html(project().progress(name), name),
            corrections: "".join(map(message_html, figures)),
            warned: None,
        }
        if place is None:
            done = message_html("All items are done. Thank you!")
            return updates | named(stay, name) | {message: notice + done}
        project().drafted.want(place)
        item = project().items[place]
        drafted = project().drafted.of(item)
        return updates | {
            images: images_html(item, project().folder),
            question: question_html(item),
            message: notice,
            **named(place, name),
            **offered(place, drafted),
            **edited(place, project().text(name, place, drafted), drafted),
        }

    def named(place: int, name: str) -> Updates:
        text = project().shown(name, place).to_text()
        return {shown: text, current: text}

    def offered(place: int, drafted: DraftedRepair | None) -> Updates:
        item = project().items[place]
        html = offer_html(item, drafted) if drafted else message_html(project().drafted.reason(item))
        waits = drafted is None and project().drafted.awaited(item)
        return {shown_draft: name_of_draft(drafted), offer: html, timer: gr.Timer(active=waits)}

    def edited(place: int, text: str, drafted: DraftedRepair | None) -> Updates:
        text = whole(text)
        html = feedback_html(project().items[place], text, tokenizer, drafted.text if drafted else None)
        return {editor: text, feedback: html}

    def place_and_draft(sent: Any, sent_draft: Any, name: str) -> tuple[int, DraftedRepair | None]:
        """The item that the page shows, and the drafted repair that it shows. Raises `StaleError`."""
        place = project().place_of(Shown.from_text(sent), name)
        drafted = project().drafted.of(project().items[place]) if sent_draft else None
        if sent_draft and sent_draft != name_of_draft(drafted):
            raise StaleError(
                "There is another drafted repair now. Nothing was saved, and your text is kept. Save once more if it "
                "is right.",
                place,
            )
        return place, drafted

    def refused(error: StaleError, name: str, text: str, texts: Any) -> Updates:
        """The item as it is now, and the text that was not saved: in the editor, or beside it if the item is gone."""
        other = "" if error.saved is None else other_text_html("What was saved meanwhile", error.saved)
        notice = message_html(str(error), wrong=True) + other
        if error.place is not None:
            drafted = project().drafted.of(project().items[error.place])
            return show(error.place, name, notice) | edited(error.place, text, drafted)
        updates = show(project().first(name), name, notice)
        if text.strip() and updates[editor].strip() != text.strip():
            everything = "\n\n".join(filter(None, [_text(texts), text]))
            updates[kept] = gr.Textbox(value=whole(everything), visible=True)
        return updates

    @handled
    def start(request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            return show(project().first(name), name)

    @handled
    def saved(sent: Any, text: Any, sent_draft: Any, warned_of: Any, texts: Any, request: gr.Request) -> Updates:
        return keep(sent, _text(text), sent_draft, warned_of, texts, name_of(request, annotator))

    def keep(sent: Any, text: str, sent_draft: Any, warned_of: Any, texts: Any, name: str) -> Updates:
        with project().turn():
            try:
                place, drafted = place_and_draft(sent, sent_draft, name)
            except StaleError as error:
                if error.place is not None and error.saved == text.strip():  # the same save came twice
                    return show(project().next(name, error.place), name, stay=error.place)
                return refused(error, name, text, texts)
            item = project().items[place]
            wrong = is_right(item, text) is False
            project().check(place, text)
            if wrong and warned_of != (item["id"], text):
                return {warned: (item["id"], text), message: message_html(WRONG, wrong=True)}
            project().save(name, place, text, drafted)
            notice = f"Saved {item['id']}" + (", which the grader calls wrong." if wrong else ".")
            return show(project().next(name, place), name, message_html(notice, wrong), stay=place)

    @handled
    def accepted(sent: Any, text: Any, sent_draft: Any, warned_of: Any, texts: Any, request: gr.Request) -> Updates:
        name, text = name_of(request, annotator), _text(text)
        with project().turn():
            try:
                place, drafted = place_and_draft(sent, sent_draft, name)
            except StaleError as error:
                return refused(error, name, text, texts)
            if drafted is None:
                return {message: message_html("There is no drafted repair to accept.", wrong=True)}
            if text.strip() not in (project().items[place]["draft"].strip(), drafted.text):
                notice = "You have changed the text. Save it, or start from the drafted repair before you accept it."
                return {message: message_html(notice, wrong=True)}
            updates = edited(place, drafted.text, drafted)
            return updates | keep(sent, drafted.text, sent_draft, warned_of, texts, name)

    @handled
    def skipped(sent: Any, text: Any, texts: Any, now: Any, request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            if now not in (None, sent):  # an earlier event has moved the page on
                return {message: gr.skip()}
            try:
                place = project().place_of(Shown.from_text(sent), name)
            except StaleError as error:
                return refused(error, name, _text(text), texts)
            project().skip(name, place)
            notice = message_html(f"Skipped {project().items[place]['id']}.")
            return show(project().next(name, place), name, notice, stay=place)

    @handled
    def previous(sent: Any, text: Any, texts: Any, now: Any, request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            if now not in (None, sent):
                return {message: gr.skip()}
            try:
                place = project().place_of(Shown.from_text(sent), name)
            except StaleError as error:
                return refused(error, name, _text(text), texts)
            return show(max(0, place - 1), name)

    def started(sent: Any, sent_draft: Any, now: Any, name: str, from_draft: bool) -> Updates:
        """The editor with the drafted repair, or with the wrong answer."""
        with project().turn():
            place, drafted = place_and_draft(sent, sent_draft, name)
            text = (drafted.text if drafted else None) if from_draft else project().items[place]["draft"]
            return {message: gr.skip()} if text is None or now not in (None, sent) else edited(place, text, drafted)

    @handled
    def from_draft(sent: Any, sent_draft: Any, now: Any, request: gr.Request) -> Updates:
        return started(sent, sent_draft, now, name_of(request, annotator), True)

    @handled
    def from_wrong(sent: Any, sent_draft: Any, now: Any, request: gr.Request) -> Updates:
        return started(sent, sent_draft, now, name_of(request, annotator), False)

    def waited(sent: Any, request: gr.Request) -> Updates:
        """The drafted repair is shown when it is there. The editor stays as it is, since someone may be typing."""
        if repairs is None:
            return {timer: gr.Timer(active=False)}
        with project().turn():
            try:
                place = project().place_of(Shown.from_text(sent), name_of(request, annotator))
            except StaleError:
                return {timer: gr.Timer(active=False)}
            drafted = project().drafted.of(project().items[place])
            if drafted is None and project().drafted.awaited(project().items[place]):
                return {timer: gr.skip()}
            return offered(place, drafted)

    def typed(sent: Any, text: Any, sent_draft: Any, request: gr.Request) -> Updates:
        try:
            place, drafted = place_and_draft(sent, sent_draft, name_of(request, annotator)) if repairs else (0, None)
        except StaleError:
            return {feedback: gr.skip()}
        return {feedback: edited(place, _text(text), drafted)[feedback]} if repairs else {feedback: gr.skip()}

    everything = [shown, current, progress, images, question, editor, feedback, message, shown_draft, offer, timer]
    outputs: dict[str, Any] = {"outputs": [*everything, warned, corrections, kept], **ONE_BY_ONE}
    page.load(start, None, **outputs)
    save.click(saved, [shown, editor, shown_draft, warned, kept], **outputs)
    accept.click(accepted, [shown, editor, shown_draft, warned, kept], **outputs)
    skip.click(skipped, [shown, editor, kept, current], **outputs)
    back.click(previous, [shown, editor, kept, current], **outputs)
    take_draft.click(from_draft, [shown, shown_draft, current], **outputs)
    take_wrong.click(from_wrong, [shown, shown_draft, current], **outputs)
    timer.tick(waited, [shown], [shown_draft, offer, timer], **ONE_BY_ONE)
    editor.input(typed, [shown, editor, shown_draft], [feedback], show_progress="hidden", trigger_mode="always_last")


def name_of_draft(drafted: DraftedRepair | None) -> str:
    """What a page sends back for the drafted repair that it shows."""
    return digest(drafted.id, drafted.text, drafted.by) if drafted else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
