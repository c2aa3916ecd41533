"""The hash that says whether slow tests must run again changes when something that they can reach changes."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fingerprint", ROOT / "tests" / "fingerprint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("src", "tests", "recipes"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def before(tool: ModuleType, checkout: Path) -> dict[str, str]:
    hashes = {suite: tool.fingerprint(checkout, suite) for suite in tool.SUITES}
    assert hashes == {suite: tool.fingerprint(ROOT, suite) for suite in tool.SUITES}, "the place does not matter"
    return hashes


@pytest.mark.parametrize(
    ("file", "verl", "distributed", "benchmarks"),
    [
        ("src/difference_feedback/verl/trainer.py", True, False, False),
        ("src/difference_feedback/method/alignment.py", True, True, True),
        ("src/difference_feedback/runs/recipes.py", True, True, True),
        ("src/difference_feedback/repair/projection.py", True, True, False),  # inside a function of another module
        ("src/difference_feedback/world/shipped_base/tokenizer.json", True, True, True),
        ("src/difference_feedback/commands/annotate.py", True, True, True),  # the command line imports it
        ("src/difference_feedback/annotate/page.py", False, False, False),  # the command `annotate` alone imports it
        ("src/difference_feedback/policy/train.py", False, True, False),
        ("src/difference_feedback/annotate/page.css", False, False, False),
        ("tests/conftest.py", True, True, True),
        ("tests/verl/requirements.txt", True, False, False),
        ("tests/verl/passed", False, False, False),
        ("tests/method/test_alignment.py", False, False, False),
        ("recipes/nano_df_grpo.yaml", True, False, False),
        ("recipes/verl/qwen3_vl_8b_df_gspo.yaml", True, False, False),
        ("recipes/accelerate/zero3.yaml", False, True, False),
        ("tests/distributed/ranks.py", False, True, False),
        ("recipes/demo.yaml", False, False, False),
        ("src/difference_feedback/policy/harness_worker.py", False, True, True),
        ("tests/benchmarks/benchmark_rows.py", False, False, True),
        ("tests/benchmarks/requirements.txt", False, False, True),
    ],
)
def test_it_changes_with_what_the_host_can_reach(
    tool: ModuleType, checkout: Path, before: dict[str, str], file: str, verl: bool, distributed: bool, benchmarks: bool
) -> None:
    content = (checkout / file).read_bytes()
    (checkout / file).write_bytes(content + b"\n")
    changed = {suite: tool.fingerprint(checkout, suite) != before[suite] for suite in before}
    (checkout / file).write_bytes(content)
    assert changed == {"verl": verl, "distributed": distributed, "benchmarks": benchmarks}


def test_a_new_import_brings_its_file_in(tool: ModuleType, checkout: Path) -> None:
    file = checkout / "src" / "difference_feedback" / "method" / "masks.py"
    content = file.read_text(encoding="utf-8")
    file.write_text(content + "\n\ndef late() -> None:\n    from difference_feedback.annotate import feedback\n")
    assert checkout / "src" / "difference_feedback" / "annotate" / "feedback.py" in tool.files(checkout, "verl")
    file.write_text(content, encoding="utf-8")


def test_every_module_that_python_loads_is_among_the_files(tool: ModuleType) -> None:
    names = "cli verl.launch verl.settings verl.results verl.reward verl.problems repair.local repair.endpoint"
    code = "; ".join(f"import difference_feedback.{name}" for name in names.split())
    code += "; import sys; print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('difference_feedback')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert len(loaded) > 40
    assert {Path(path).relative_to(ROOT) for path in loaded} <= {
        path.relative_to(ROOT) for path in tool.files(ROOT, "verl")
    }
