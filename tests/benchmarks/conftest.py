"""Local copies of six benchmarks, a tiny model, and a server that knows the answers."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmark_rows import TASKS, write
from replay import Replay
from servers.openai_server import serving


@pytest.fixture(scope="session", autouse=True)
def _harness() -> None:
    """The harness's Python: that of the environment, or the one that `make test-benchmarks` makes."""
    made = Path(__file__).parents[2] / ".venv-harness" / "bin" / "python"
    os.environ.setdefault("DIFFERENCE_FEEDBACK_HARNESS", str(made))


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Benchmark -> the folder with a local copy of its data."""
    root = tmp_path_factory.mktemp("copies")
    return {name: write(name, root / name) for name in TASKS}


@pytest.fixture(scope="session")
def tiny(checkpoint: Callable[[str], Path]) -> Path:
    """The folder of a tiny Qwen2.5-VL with random weights."""
    return checkpoint("qwen2_5_vl")


@pytest.fixture
def replay(tiny: Path) -> Iterator[Replay]:
    """A server that stands for the tiny model and gives the known answers."""
    from transformers import AutoProcessor

    server = Replay(AutoProcessor.from_pretrained(tiny), str(tiny))
    with serving(server.app) as server.url:
        yield server
