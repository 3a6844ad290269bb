"""What every test may use: the tiny preset and seeded random tensors. No file, no network."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from lily.config.presets import load_config

# One thread: the machine is shared, and bit equality should not hang on how work is split.
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes; named files or folders in one, which starts sooner.

    ``-n 0`` runs everything in one process. A file's tests stay together, so that its fixtures are
    made once. Without pytest-xdist (the extra ``dev``) the suite runs in one process too.
    """
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    option = config.option
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    if option.numprocesses is None and not named and not option.usepdb:
        option.numprocesses = 2
    if option.numprocesses and option.dist == "no":
        option.dist = "loadfile"


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files, those of child processes and of killed runs too, go with the test run."""
    tmp_path_factory.getbasetemp()  # found before TMPDIR changes: failed tests keep their folders
    # Not below pytest's folder: Ray's sockets lie in it, and their paths must be short.
    with (
        tempfile.TemporaryDirectory(prefix="lily-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)  # read TMPDIR again
        yield


@pytest.fixture(scope="session")
def _tiny() -> dict[str, Any]:
    return load_config("tiny")


@pytest.fixture
def tiny_config(_tiny: dict[str, Any]) -> dict[str, Any]:
    """The tests' preset, a copy that may be changed."""
    return copy.deepcopy(_tiny)


@pytest.fixture
def randn() -> Callable[..., Tensor]:
    """``randn(*shape)`` from one generator a test, always the same numbers."""
    generator = torch.Generator().manual_seed(20)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests, of every folder: one process takes one Playwright."""
    from browser import CHROMIUM, FLAGS

    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
