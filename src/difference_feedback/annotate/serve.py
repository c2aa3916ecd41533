"""Serve the page: on loopback for whoever sits at this machine, beyond it for people with the token alone."""

import getpass
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.annotate.items import Work, find_work
from difference_feedback.annotate.projects import RepairProject, ReviewProject
from difference_feedback.errors import ConfigError
from difference_feedback.report.mask_pairs import load_tokenizer

TOKEN = "DIFFERENCE_FEEDBACK_TOKEN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    source: Path,
    output: Path | None = None,
    annotator: str | None = None,
    tokenizer: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    block: bool = True,
) -> Any:
    """Open the page on `source`; returns the Gradio application, which is running, when it does not `block`.

    Raises `ConfigError` when Gradio is missing or the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # the page loads and tells nothing
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ConfigError("annotate needs Gradio: pip install 'difference-feedback[annotate]'") from None
    from difference_feedback.annotate.page import CSS, HEAD, build_page, theme

    console = Console(stderr=True, soft_wrap=True)
    repairs, audits = find_work(source)
    for work in filter(None, (repairs, audits)):
        _tell(work, console)
    project = RepairProject(repairs, output) if repairs else None
    page = build_page(
        project,
        ReviewProject(audits) if audits else None,
        annotator or getpass.getuser(),
        load_tokenizer(tokenizer) if tokenizer else None,
    )
    auth = None if host in LOOPBACK else log_in(_token(console))
    if project:
        console.print(f"Repairs are saved in {project.output.path}.", markup=False, highlight=False)
    try:
        page.launch(
            server_name=host,
            server_port=port or None,
            auth=auth,
            auth_message="Any name, by which your work is kept, and the token as the password." if auth else None,
            share=False,
            prevent_thread_lock=True,
            show_error=True,
            quiet=True,
            footer_links=[],
            theme=theme(),
            css=CSS,
            head=HEAD,
        )
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used ({error}): give another --port, or 0 for a free one") from None
    console.print(f"Open {page.local_url} (Ctrl+C ends; everything saved is kept).", highlight=False)
    if block:
        page.block_thread()
    return page


def log_in(token: str) -> Callable[[str, str], bool]:
    """Whether a name and a password let somebody in: any name, and the token, compared in constant time."""
    return lambda name, password: bool(name.strip()) and hmac.compare_digest(password.encode(), token.encode())


def _token(console: Console) -> str:
    token = os.environ.get(TOKEN)
    if token is None:
        token = secrets.token_urlsafe(16)
        console.print(f"Token to log in with (set {TOKEN} to choose it): {token}", markup=False, highlight=False)
    elif len(token) < 12:
        raise ConfigError(f"{TOKEN} is shorter than 12 characters; it is all that keeps others out: use a longer one")
    return token


def _tell(work: Work, console: Console) -> None:
    console.print(f"{work.path}: {len(work.rows)} items.", markup=False, highlight=False)
    for problem in work.problems[:20]:
        console.print(f"  left out: {problem}", markup=False, highlight=False)
    if len(work.problems) > 20:
        console.print(f"  and {len(work.problems) - 20} more")
