"""What the tests of kills share: a process that runs commands under the C library, and the folder of their runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.file_faults.trials import Commands, commands


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with commands(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs: some files name others by their whole path."""
    return tmp_path_factory.mktemp("runs") / "run"
