"""The page on a model from a Hub, as a visitor meets it: it downloads in sight, then it serves."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from browser import CHROMIUM, DONE, RUN_SECONDS, fetch, start, wait_for_result, wait_until_up
from fakes import write_recording
from hubserver import HubServer

from lily.checkpoints.resolve import bundled_folder

ROOT = Path(__file__).resolve().parents[2]
NAME = "somebody/lily"
PATIENCE_MS = 60_000  # the page is told of its model after the run, and the machine may be busy
# Keeps every text the panel showed: a download of this size is over in a few looks.
WATCH = """() => {
  window.texts = [];
  const text = document.querySelector('#chunk-map .text');
  const look = () => { if (window.texts.at(-1) !== text.textContent)
    window.texts.push(text.textContent); };
  new MutationObserver(look).observe(text, {subtree: true, childList: true, characterData: true});
}"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install -y chromium"
    ),
]


@pytest.fixture
def serve(environment, tmp_path) -> Callable:
    """Start app.py with this in its environment; a context manager that gives its address."""

    @contextmanager
    def run(**more: str) -> Iterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        changes = {"PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path / "gradio"), **more}
        with (tmp_path / "app.log").open("w") as log:
            app = subprocess.Popen(
                [sys.executable, "app.py"],
                cwd=ROOT,
                env=environment | changes,
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{port}/"
        try:
            wait_until_up(url, app, tmp_path / "app.log")
            yield url
        finally:
            app.terminate()
            app.wait(timeout=30)

    return run


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Open the page at an address as a new visitor."""
    contexts = []

    def open_page(url: str):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}))
        contexts[-1].set_default_timeout(RUN_SECONDS * 1000)
        page = contexts[-1].new_page()
        page.goto(url)
        page.wait_for_selector("#chunk-map [data-phase='idle']")
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_a_model_on_the_hub_is_downloaded_in_sight_and_serves(hub, serve, visit, tmp_path):
    hub.put(NAME, {p.name: p.read_bytes() for p in bundled_folder("lily-mini").iterdir()})
    hub.bytes_per_second = 10_000_000
    with serve(LILY_MODEL=NAME) as url:
        assert not hub.asked("GET", "/store/")  # the page was up before its model was here
        page = visit(url)
        page.evaluate(WATCH)
        recording = write_recording(tmp_path / "take.wav", 8_000, 1, 3.0)
        start(page, recording, steps=2)
        page.wait_for_selector("#chunk-map .text:has-text('Downloading model.safetensors')")
        wait_for_result(page, recording)
        shown = [text for text in page.evaluate("window.texts") if "Downloading" in text]
        assert len(shown) > 1 and all(text.endswith("of 29.1 MB") for text in shown)
        assert soundfile.info(fetch(page, tmp_path)).frames == 3 * 48_000
        assert f"--weights {NAME}" in page.text_content("#player .command pre")


def test_without_the_hub_the_bundled_model_serves_under_a_notice(serve, visit, tmp_path):
    with serve(LILY_MODEL=NAME, HF_ENDPOINT="http://127.0.0.1:9") as url:
        page = visit(url)
        assert "127.0.0.1:9 does not answer" in page.inner_text("#notice")
        recording = write_recording(tmp_path / "take.wav", 8_000, 1, 2.0)
        start(page, recording, steps=2)
        wait_for_result(page, recording)
        assert "lily-mini" in page.text_content("#player .facts")


def test_an_untrained_encoder_is_told_and_cannot_be_switched(
    hub: HubServer, untrained: dict[str, bytes], serve, visit, tmp_path
):
    from playwright.sync_api import expect

    hub.put(NAME, untrained)
    with serve(LILY_MODEL=NAME) as url:
        page = visit(url)
        page.get_by_role("button", name="Settings").click()
        switch = page.get_by_role("radio", name="on", exact=True)
        expect(switch).to_be_enabled()  # nobody knows before the weights are here
        start(page, write_recording(tmp_path / "take.wav", 8_000, 1, 2.0), steps=2)
        page.wait_for_selector(DONE)
        page.wait_for_selector("text=This model's encoder is untrained")
        expect(switch).to_be_disabled(timeout=PATIENCE_MS)
        late = visit(url)  # a visitor who comes now is told at once
        late.get_by_role("button", name="Settings").click()
        late.wait_for_selector("text=This model's encoder is untrained")
        off = late.get_by_role("radio", name="off", exact=True)
        expect(off).to_be_checked(timeout=PATIENCE_MS)
