"""Serve the page: on this machine without a login, to other machines only with a token."""

import getpass
import hmac
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
    draft_from: Sequence[str] = (),
    **drafting: Any,
) -> Any:
    """Serve the page for `source`. Without `block`, return the running Gradio application at once.

    `draft_from` says who drafts repairs for people to correct; `drafting` has further arguments of `draft_source`.

    Raises `ConfigError` when Gradio is not installed, the port cannot be used, or nobody can draft repairs.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # the page sends nothing to anyone
    require("gradio", "annotate")
    from difference_feedback.annotate.page import CSS, HEAD, build_page, theme

    console = Console(stderr=True, emoji=False, soft_wrap=True)
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
    auth = None if host in LOOPBACK else log_in(_token(console))
    if project:
        say(f"Your repairs are saved in {project.output.path}.")
        if project.old_output:
            say(f"Repairs of these items from {project.old_output} are copied there: that name was cut at a dot.")
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
    except OSError:  # Gradio's own text names its settings, not this command's
        other = "" if host in LOOPBACK else f", or {host} is no address of this machine"
        raise ConfigError(f"port {port} is in use{other}: give another --port, or 0 for a free one") from None
    console.print(f"Open {page.local_url} in a browser. Ctrl+C stops the server; saved work is kept.", highlight=False)
    if project and drafters:
        say(f"{drafters.name} drafts repairs: {project.drafted.file.path}")
        project.drafted.start(project.repairs, say)
    if block:
        page.block_thread()
        ended = project.drafted.stop() if project else True
        for corrections in project.corrections() if project else ():
            say(str(corrections))
        if not ended:  # Python cannot end while the thread is inside of torch, and would wait for a server's answer
            sys.stdout.flush()
            os._exit(0)
    return page


def log_in(token: str) -> Callable[[str, str], bool]:
    """A check of name and password: any name is accepted; the password must be the token (constant-time comparison)."""
    return lambda name, password: bool(name.strip()) and hmac.compare_digest(password.encode(), token.encode())


def _user() -> str:
    """This user's name, or the number of one that the system has no name for, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def _token(console: Console) -> str:
    token = os.environ.get(TOKEN)
    if token is None:
        token = secrets.token_urlsafe(16)
        console.print(f"Log in with this token (set {TOKEN} to choose one): {token}", markup=False, highlight=False)
    elif len(token) < 12:
        raise ConfigError(f"{TOKEN} is shorter than 12 characters, so others could guess it: use a longer token")
    return token
