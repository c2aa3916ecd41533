"""Serve the page: on this machine without a login, to other machines only with a token."""

import getpass
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.annotate.items import find_work
from difference_feedback.annotate.projects import RepairProject, ReviewProject
from difference_feedback.errors import ConfigError
from difference_feedback.report.mask_pairs import load_tokenizer
from difference_feedback.runs.jsonl import print_problems
from difference_feedback.runs.packages import require

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
    """Serve the page for `source`. Without `block`, return the running Gradio application at once.

    Raises `ConfigError` when Gradio is not installed or the port cannot be used.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # the page sends nothing to anyone
    require("gradio", "annotate")
    from difference_feedback.annotate.page import CSS, HEAD, build_page, theme

    console = Console(stderr=True, emoji=False, soft_wrap=True)
    repairs, audits = find_work(source)
    for work in filter(None, (repairs, audits)):
        left_out = f", {len(work.problems)} rows left out:" if work.problems else "."
        console.print(f"{work.path}: {len(work.rows)} items{left_out}", markup=False, highlight=False)
        print_problems(work.problems, console)
    project = RepairProject(repairs, output) if repairs else None
    page = build_page(
        project,
        ReviewProject(audits) if audits else None,
        annotator or getpass.getuser(),
        load_tokenizer(tokenizer) if tokenizer else None,
    )
    auth = None if host in LOOPBACK else log_in(_token(console))
    if project:
        console.print(f"Your repairs are saved in {project.output.path}.", markup=False, highlight=False)
    try:
        page.launch(
            server_name=host,
            server_port=port or None,
            auth=auth,
            auth_message="Enter a name of your choice, and the token as the password." if auth else None,
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
    console.print(f"Open {page.local_url} in a browser. Ctrl+C stops the server; saved work is kept.", highlight=False)
    if block:
        page.block_thread()
    return page


def log_in(token: str) -> Callable[[str, str], bool]:
    """A check of name and password: any name is accepted; the password must be the token (constant-time comparison)."""
    return lambda name, password: bool(name.strip()) and hmac.compare_digest(password.encode(), token.encode())


def _token(console: Console) -> str:
    token = os.environ.get(TOKEN)
    if token is None:
        token = secrets.token_urlsafe(16)
        console.print(f"Log in with this token (set {TOKEN} to choose one): {token}", markup=False, highlight=False)
    elif len(token) < 12:
        raise ConfigError(f"{TOKEN} is shorter than 12 characters, so others could guess it: use a longer token")
    return token
