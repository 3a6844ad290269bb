"""Recordings from seeds, a shelf with the fake engine, and the real app in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import soundfile
from browser import RUN_SECONDS, wait_until_up
from fakes import FakeEngine, fake_shelf, write_recording

from lily.ui.shelf import EngineShelf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def engine() -> FakeEngine:
    """The engine the shelf hands out."""
    return FakeEngine()


@pytest.fixture
def shelf(engine: FakeEngine) -> EngineShelf:
    """Two presets, both served by the fake engine."""
    return fake_shelf(engine)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Twelve seconds at 8 kHz, mono: three chunks."""
    return write_recording(tmp_path / "speech.wav", 8_000, 1, 12.0)


@pytest.fixture
def full_band(tmp_path: Path) -> Path:
    """Two seconds at 48 kHz, which the fake engine takes for full band."""
    return write_recording(tmp_path / "full.wav", 48_000, 2, 2.0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """As long as ``recording``, but noise."""
    noise = np.random.default_rng(3).normal(0, 0.1, 12 * 48_000)
    soundfile.write(tmp_path / "other.wav", noise, 48_000)
    return tmp_path / "other.wav"


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    """A text that claims to be a WAV."""
    path = tmp_path / "bad.wav"
    path.write_text("this is not audio")
    return path


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    """The address of the real app, started as the README says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    changes = {"PORT": str(port), "GRADIO_TEMP_DIR": str(folder), "LILY_MAX_SECONDS": "60"}
    with (folder / "app.log").open("w") as log:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | changes, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until_up(url, app, folder / "app.log")
        yield url
    finally:
        app.terminate()
        app.wait(timeout=30)


@pytest.fixture
def visit(browser, address):
    """Open the page as a new visitor; at the end, no request may have left for another host."""
    contexts, hosts, errors = [], set(), []

    def open_page(width=1280, height=800, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.set_default_timeout(RUN_SECONDS * 1000)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlparse(request.url).netloc))
        # Kept for the end: an exception in a callback would close Playwright's connection.
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector("#chunk-map [data-phase='idle']")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert hosts - {""} == {urlparse(address).netloc}  # "": data: and blob: addresses
