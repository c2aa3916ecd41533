"""A hook of the site: links that work on GitHub lead to the right place on the site, too.

Pages of the repository's root that belong on the site are put there. A link to another file of the repository leads to
`repo_url`; without it only its text stays. A link to a file that does not exist is left to mkdocs, whose
strict build fails on it. Where the text of a link is the name of a page's file, the page's title stands for it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {name: name.lower() for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
PAGES = {**ROOT_PAGES, "README.md": "index.md"}
"""What stands at the root of the repository -> where it is on the site."""

FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[(?P<label>[^\[\]]+)\]\((?P<path>(?![a-z]+:)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead every link of a page to the site, or to the repository."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    folder = posixpath.dirname(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        on_site = path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path)
        if on_site:
            goal = files.get_file_from_path(on_site)
            is_name = posixpath.basename(link["label"]) == posixpath.basename(path)
            label = goal.page.title if is_name and goal and goal.page and goal.page.title else link["label"]
            return f"[{label}]({posixpath.relpath(on_site, folder or '.')}{link['anchor'] or ''})"
        if not (ROOT / path).exists():
            return link[0]
        address = config.repo_url and f"{config.repo_url.rstrip('/')}/blob/main/{path}"
        return f"[{link['label']}]({address})" if address else link["label"]

    parts = FENCE.split(markdown)
    return "".join(part if FENCE.fullmatch(part) else LINK.sub(led, part) for part in parts)
