"""Every page is on the site, and every link leads to a file and a heading, on GitHub and on the site alike.

`make docs` checks the site itself; these tests need nothing but the files.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROOT_PAGES = {name: f"{name.lower()}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")}
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.md")])
SOURCES = ("src/**/*.py", "evidence/*.py", "recipes/**/*.yaml", "examples/*.py", "benchmarks/*.py", "Makefile", "*.cff")


class _Loader(yaml.SafeLoader):
    """mkdocs.yml names functions of Python, which are of no interest here."""


_Loader.add_multi_constructor("", lambda loader, tag, node: None)


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from _leaves(item)


def _without_blocks(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _prose(page: Path) -> str:
    """A page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]+`", "`code`", _without_blocks(page))


def _anchors(page: Path) -> list[str]:
    """Its headings as GitHub and the site name them in addresses."""
    titles = re.findall(r"^#+ +(.*)$", _without_blocks(page), re.MULTILINE)
    headings = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return [re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"]
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(_leaves(nav)) == sorted([*pages, *ROOT_PAGES.values()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), target
        if anchor:
            assert _anchors(goal).count(anchor) == 1, f"{target}: no heading, or several"


def test_pages_that_the_code_names_exist() -> None:
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            for name in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text(encoding="utf-8")):
                assert (ROOT / name).is_file(), f"{path.relative_to(ROOT)} names {name}"


def test_pages_load_nothing_from_other_servers() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    assert settings["theme"]["font"] is False
    for page in PAGES:
        assert not re.search(r"!\[[^\]]*\]\(https?:|<(script|iframe|link|img)\b", _prose(page)), page
    for style in DOCS.rglob("*.css"):
        assert "url(" not in style.read_text(encoding="utf-8"), style


def test_what_the_site_is_made_into_is_not_kept() -> None:
    ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", "site/index.html"], capture_output=True)
    assert ignored.returncode in (0, 128), "128: no checkout"
