"""Servers on loopback, a browser, a nano VLM and a file system without locks, for tests of several folders."""

import copy
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from servers.openai_server import OpenAIServer, serve_model

with suppress(ModuleNotFoundError):  # verl's environment does without
    from hypothesis import HealthCheck, settings

    # A busy machine is slow, not wrong.
    settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def _served() -> Iterator[OpenAIServer]:
    from difference_feedback.world.nano import load_base

    with serve_model(*load_base()) as server:
        yield server


@pytest.fixture
def openai_server(_served: OpenAIServer) -> OpenAIServer:
    """The shipped nano base behind OpenAI's chat routes: `.url` (ends in /v1), `.model`, and a fresh `.requests`."""
    _served.forget()
    return _served


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, as kernels say it."""

    def refuse(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def browser(_chromium: Any) -> Any:
    """A real headless Chromium on an empty page, without the messages of the page before."""
    _chromium.get("about:blank")  # which ends the scripts of the page before
    _chromium.get_log("browser")
    return _chromium


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Any]:
    """Its tests are skipped with the reason where there is none."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("left out: pages in a browser (no Chromium with chromedriver found)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync disable-dev-shm-usage hide-scrollbars window-size=1280,1000"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="session")
def frozen() -> tuple[Any, Any]:
    """A nano VLM and its processor that tests share and leave as they are.

    Its weights are random and larger than at initialisation, so that its answers vary with what it is shown.
    """
    import torch

    from difference_feedback.world import nano

    model, processor = nano.build(seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval(), processor


@pytest.fixture
def nano_model(frozen: tuple[Any, Any]) -> tuple[Any, Any]:
    """A model of the test's own, to train, and the processor."""
    return copy.deepcopy(frozen[0]), frozen[1]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of that architecture, written once in a session; see `architectures.py`."""
    from architectures import save

    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = save(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return folder
