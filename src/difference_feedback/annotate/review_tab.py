"""The tab in which people review audited repairs."""

from typing import Any

import gradio as gr

from difference_feedback.annotate.feedback import feedback_html
from difference_feedback.annotate.page_parts import (
    agreement_html,
    images_html,
    message_html,
    other_text_html,
    progress_html,
    question_html,
    whole,
)
from difference_feedback.annotate.reviews import ReviewProject
from difference_feedback.annotate.shown import Shown, StaleError
from difference_feedback.annotate.turns import ONE_BY_ONE, Updates, name_of, spoken
from difference_feedback.judges.audit import MEANINGS, VERDICTS


def review_tab(page: gr.Blocks, reviews: ReviewProject | None, annotator: str) -> None:
    """Build the tab. Without a project it is hidden, so that its events keep their numbers over all servers."""
    shown, current = gr.Textbox(visible="hidden", elem_id="review-shown"), gr.State(None)
    progress = gr.HTML(elem_id="review-progress")
    with gr.Row():
        with gr.Column(scale=4, min_width=320):
            images = gr.HTML(elem_id="review-images")
            question = gr.HTML(elem_id="review-question")
        with gr.Column(scale=5, min_width=320):
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
    outputs: dict[str, Any] = {
        "outputs": [shown, current, progress, images, question, shown_pair, verdict, note, message, agreement],
        **ONE_BY_ONE,
    }
    handled = spoken(message, reviews, "audits")

    def project() -> ReviewProject:
        assert reviews is not None  # `handled` sees to that
        return reviews

    def show(place: int | None, name: str, notice: str = "", stay: int = 0) -> Updates:
        """Everything on the page for an item. With None that at `stay` stays, and a message says that all is done."""
        bars = {
            progress: progress_html(project().progress(name), name),
            agreement: agreement_html(project().agreement()),
        }
        if place is None:
            done = message_html("All repairs are reviewed. Thank you!")
            return bars | named(stay, name) | {message: notice + done}
        item = project().items[place]
        return bars | {
            images: images_html(item, project().folder),
            question: question_html(item),
            shown_pair: feedback_html({"id": item["id"], "draft": item["draft"]}, item["repair"]),
            verdict: project().saved(name, place),
            note: "",
            message: notice,
            **named(place, name),
        }

    def named(place: int, name: str) -> Updates:
        text = project().shown(name, place).to_text()
        return {shown: text, current: text}

    def refused(error: StaleError, name: str, chosen: Any, text: Any) -> Updates:
        """The item as it is now, with the verdict and the note that were not saved; of a lost item they are cited."""
        other = "" if error.saved is None else other_text_html("The verdict that was saved meanwhile", error.saved)
        notice = message_html(str(error), wrong=True) + other
        if error.place is not None:
            return show(error.place, name, notice) | {
                verdict: chosen,
                note: whole(text) if isinstance(text, str) else "",
            }
        words = "\n".join(filter(None, (value if isinstance(value, str) else "" for value in (chosen, text))))
        notice += other_text_html("Your verdict and note", words) if words else ""
        return show(project().first(name), name, notice)

    @handled
    def start(request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            return show(project().first(name), name)

    @handled
    def saved(sent: Any, chosen: Any, text: Any, request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            try:
                place = project().place_of(Shown.from_text(sent), name)
            except StaleError as error:
                if error.place is not None and error.saved is not None and error.saved == chosen and not text:
                    return show(project().next(name, error.place), name, stay=error.place)  # the same save came twice
                return refused(error, name, chosen, text)
            project().save(name, place, chosen or "", text or "")
            notice = message_html(f"Saved {project().items[place]['id']}.")
            return show(project().next(name, place), name, notice, stay=place)

    @handled
    def previous(sent: Any, chosen: Any, text: Any, now: Any, request: gr.Request) -> Updates:
        name = name_of(request, annotator)
        with project().turn():
            if now not in (None, sent):  # an earlier event has moved the page on
                return {message: gr.skip()}
            try:
                place = project().place_of(Shown.from_text(sent), name)
            except StaleError as error:
                return refused(error, name, chosen, text)
            return show(max(0, place - 1), name)

    page.load(start, None, **outputs)
    save.click(saved, [shown, verdict, note], **outputs)
    back.click(previous, [shown, verdict, note, current], **outputs)
