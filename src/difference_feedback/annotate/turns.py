"""What both tabs share: who works on the page, and how errors are shown."""

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from difference_feedback.annotate.page_parts import message_html
from difference_feedback.errors import DataError

Updates = dict[Any, Any]
"""Component -> its new value."""
Handler = Callable[..., Updates]
ONE_BY_ONE: dict[str, Any] = {"concurrency_id": "turns", "concurrency_limit": 1, "show_progress": "hidden"}
"""Options of the events: they are answered in the order in which they come."""


def name_of(request: gr.Request, annotator: str) -> str:
    """The name under which someone works: the one that they logged in with, or the server's."""
    return request.username or annotator


def spoken(message: gr.HTML, project: object, kind: str) -> Callable[[Handler], Handler]:
    """Every error of a handler becomes a message on the page, as text. Gradio would put it into the page as HTML.

    Without a `project` no handler is called: a page of an earlier server can still have the tab.
    """

    def decorate(handle: Handler) -> Handler:
        @wraps(handle)
        def handler(*values: Any) -> Updates:
            if project is None:
                said = f"The server was started anew without {kind}. Nothing was saved; your text is kept."
                return {message: message_html(said, wrong=True)}
            try:
                return handle(*values)
            except DataError as error:
                return {message: message_html(str(error), wrong=True)}
            except Exception as error:  # of any kind: the page and the text in it stay
                traceback.print_exc()
                said = f"This failed ({type(error).__name__}: {error}). Your text is kept. The terminal says more."
                return {message: message_html(said, wrong=True)}

        return handler

    return decorate
