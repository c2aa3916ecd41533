"""The page in Gradio: one tab to repair answers, one to review audits."""

from pathlib import Path
from typing import Any

import gradio as gr

from difference_feedback.annotate.projects import RepairProject
from difference_feedback.annotate.repair_tab import repair_tab
from difference_feedback.annotate.review_tab import review_tab
from difference_feedback.annotate.reviews import ReviewProject
from difference_feedback.report.mask_pairs import Tokenizer

HERE = Path(__file__).parent
CSS = (HERE / "page.css").read_text(encoding="utf-8")
HEAD = f"<script>{(HERE / 'shortcuts.js').read_text(encoding='utf-8')}</script>"


def theme() -> Any:
    """A theme with the fonts of the reader's machine, so that the page fetches nothing."""
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def build_page(
    repairs: RepairProject | None, reviews: ReviewProject | None, annotator: str, tokenizer: Tokenizer | None = None
) -> gr.Blocks:
    """The page, with a tab for each kind of work. People who have logged in work under their own names.

    Both tabs are always built. So an event has the same number on every server, and one that a page sends to a later
    server than its own is never taken for another.
    """
    with gr.Blocks(title="Difference Feedback: repair and review", analytics_enabled=False) as page:
        with gr.Tab("Repair", id="repair", visible=repairs is not None):
            repair_tab(page, repairs, annotator, tokenizer)
        with gr.Tab("Review", id="review", visible=reviews is not None):
            review_tab(page, reviews, annotator)
    return page
