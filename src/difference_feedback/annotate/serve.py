"""Serve the page: on this machine without a login, to other machines only with a token."""

import getpass
import hmac
import ipaddress
import os
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from difference_feedback.annotate.drafters import Drafters, draft_source
from difference_feedback.annotate.guard import RouteGuard
from difference_feedback.annotate.items import find_work
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.annotate.reviews import ReviewProject
from difference_feedback.annotate.server import PageServer
from difference_feedback.errors import ConfigError
from difference_feedback.report.mask_pairs import load_tokenizer
from difference_feedback.runs.jsonl import print_problems
from difference_feedback.runs.packages import require
from difference_feedback.runs.terminal import Terminal

TOKEN = "DIFFERENCE_FEEDBACK_TOKEN"
NAMES = ("127.0.0.1", "localhost", "[::1]")
"""How a page that is for this machine alone may be called."""
LONGEST_NAME = 100


def serve(
    source: Path,
    output: Path | None = None,
    annotator: str | None = None,
    tokenizer: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    block: bool = True,
    draft_from: Sequence[str] = (),
    **drafting: Any,
) -> Any:
    """Serve the page for `source`. Without `block`, return the running `PageServer` at once.

    `draft_from` says who drafts repairs for people to correct; `drafting` has further arguments of `draft_source`.

    Raises `ConfigError` when Gradio is not installed, the port cannot be used, or nobody can draft repairs.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}  # nothing is sent or recorded
    require("gradio", "annotate")
    import gradio as gr
    from fastapi import FastAPI

    from difference_feedback.annotate.page import CSS, HEAD, build_page, theme

    console = Terminal(stderr=True, emoji=False, soft_wrap=True)
    say = partial(console.print, markup=False, highlight=False)
    repairs, audits = find_work(source)
    for work in filter(None, (repairs, audits)):
        left_out = f", {len(work.problems)} rows left out:" if work.problems else "."
        say(f"{work.path}: {len(work.rows)} items{left_out}")
        print_problems(work.problems, console)
    drafters = None
    if draft_from and not repairs:
        raise ConfigError(f"--draft-from: {source} has no wrong answers to repair: leave the option out to review")
    if repairs and draft_from:
        folder = repairs.path.parent
        stopped = threading.Event()
        drafting |= {"stopped": stopped}
        sources = [draft_source(where, repairs.rows, folder, **drafting) for where in draft_from]
        drafters = Drafters(sources, stopped)
    project = RepairProject(repairs, output, drafters) if repairs else None
    page = build_page(
        project,
        ReviewProject(audits) if audits else None,
        annotator or _user(),
        load_tokenizer(tokenizer) if tokenizer else None,
    )
    token = _token(console, host)
    application = gr.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        page,
        "/",
        auth=log_in(token) if token else None,
        auth_message="Enter a name of your choice, and the token as the password." if token else None,
        show_error=False,  # errors are messages of the page; Gradio would put them into it as HTML
        ssr_mode=False,
        mcp_server=False,
        footer_links=[],
        theme=theme(),
        css=CSS,
        head=HEAD,
    )
    names = None if token else {*NAMES, f"[{host}]" if ":" in host else host}
    server = PageServer(RouteGuard(application, names), host, port)
    if project:
        say(f"Your repairs are saved in {project.output.path}.")
        if project.old_output:
            say(f"Repairs of these items from {project.old_output} are copied there: that name was cut at a dot.")
    say(f"Open {server.local_url} in a browser. Ctrl+C stops the server; saved work is kept.")
    if project:
        threading.Thread(target=project.count_all, daemon=True).start()
    if project and drafters:
        say(f"{drafters.name} drafts repairs: {project.drafted.file.path}")
        project.drafted.start(project.repaired, say)
    if block:
        server.block_thread()
        ended = project.drafted.stop() if project else True
        for corrections in project.corrections() if project else ():
            say(str(corrections))
        if not ended:  # Python cannot end while the thread is inside of torch, and would wait for a server's answer
            sys.stdout.flush()
            os._exit(0)
    return server


def log_in(token: str) -> Callable[[str, str], bool]:
    """A check of name and password: any name is accepted; the password must be the token (constant-time comparison)."""

    def check(name: str, password: str) -> bool:
        right = hmac.compare_digest(password.encode(errors="backslashreplace"), token.encode(errors="backslashreplace"))
        return right and bool(name.strip()) and name.isprintable() and len(name) <= LONGEST_NAME

    return check


def _user() -> str:
    """This user's name, or the number of one that the system has no name for, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def _token(console: Console, host: str = "") -> str | None:
    """The token to log in with: from the environment, or made where the page is not for this machine alone."""
    token = os.environ.get(TOKEN)
    if token is None:
        if _is_loopback(host):
            return None
        token = secrets.token_urlsafe(16)
        console.print(f"Log in with this token (set {TOKEN} to choose one): {token}", markup=False, highlight=False)
    elif len(token) < 12:
        raise ConfigError(f"{TOKEN} is shorter than 12 characters, so others could guess it: use a longer token")
    return token


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
