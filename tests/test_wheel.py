"""The wheel holds what the package needs and nothing else, and works where there is no checkout."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from difference_feedback import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "difference_feedback"
RUN = """
import runpy, sys
sys.path.insert(0, sys.argv[1])  # before the checkout, where the environment has it
sys.modules |= dict.fromkeys(sys.argv[2].split(","))  # these cannot be imported
sys.argv[1:] = sys.argv[3:]
runpy.run_module("difference_feedback.cli", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend that is installed, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed wheel, without what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", str(folder), str(wheel)], check=True, capture_output=True, text=True)
    return folder


def description(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_it_holds_every_file_of_the_package_and_every_recipe_and_nothing_else(wheel: Path) -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "recipes"]
    paths = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if not paths:  # an unpacked source distribution
        paths = [path.relative_to(ROOT).as_posix() for top in ("src", "recipes") for path in (ROOT / top).rglob("*")]
    files = {path for path in paths if (ROOT / path).is_file() and not path.endswith(".pyc")}
    expected = {
        re.sub("^recipes/", "difference_feedback/shipped_recipes/", path.removeprefix("src/")) for path in files
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    assert held == expected
    assert {"difference_feedback/py.typed", "difference_feedback/report/page.html.j2"} <= held
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"} == about
    assert wheel.stat().st_size < 5e6


def run(folder: Path, *arguments: str, cwd: Path, without: str = "") -> str:
    command = [sys.executable, "-I", "-c", RUN, str(folder), without or "no.such.module", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_runs_from_it(installed: Path, tmp_path: Path) -> None:
    assert "annotate" in run(installed, "--help", cwd=tmp_path)
    cells = run(installed, "bench", "demo", "--list", cwd=tmp_path).splitlines()
    plan = yaml.safe_load((installed / "difference_feedback" / "shipped_recipes" / "demo.yaml").read_text("utf-8"))
    assert len(cells) == len(plan["methods"])
    assert all(cell.split()[:2] == ["to", "do"] for cell in cells)


def test_masks_and_grades_need_neither_torch_nor_a_trainer(installed: Path, tmp_path: Path) -> None:
    """Nor a library of data sets, pages or servers. The page of masks comes from the wheel's own template."""
    heavy = "torch,torchvision,transformers,trl,accelerate,datasets,peft,gradio,httpx,sklearn,scipy"
    arguments = [str(ROOT / "examples" / "pairs.jsonl"), "--output", "masks.jsonl", "--html", "masks.html"]
    run(installed, "mask", *arguments, cwd=tmp_path, without=heavy)
    assert (tmp_path / "masks.html").read_text(encoding="utf-8").count("<article>") == 3
    (tmp_path / "answers.jsonl").write_text('{"question": "2 + 2?", "answer": "4", "response": "It is 4."}\n')
    assert "1 correct" in run(installed, "grade", "answers.jsonl", cwd=tmp_path, without=heavy)


def test_its_description_is_the_readme_without_links_into_the_repository(wheel: Path) -> None:
    text = str(description(wheel).get_payload(decode=True), "utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    fenced = re.compile("^```.*?^```$", re.DOTALL | re.MULTILINE)
    assert fenced.findall(text) == fenced.findall(readme), "code is as it was"
    prose = fenced.sub("", text)
    assert not re.search(r"\]\((?!https?:|mailto:)", prose)
    assert "<!--" not in prose
    assert re.findall(r"^#+ .*$", prose, re.MULTILINE) == re.findall(r"^#+ .*$", fenced.sub("", readme), re.MULTILINE)


def test_one_version_everywhere(wheel: Path) -> None:
    assert description(wheel)["Version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    (newest, day) = next(heading for heading in headings if heading[0] != "Unreleased")
    assert newest == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
