"""A run without a mouse: choose, restore again, listen, download."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from browser import NEEDED, PLAYER, choose_steps, start, wait_for_result
from fakes import write_recording

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = NEEDED
LIMIT = 100  # presses of Tab: the focus goes round


def tab_to(page, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(LIMIT):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def choose_by_key(page, recording) -> None:
    """Open the file chooser by Enter. Gradio may make the field anew while the page loads."""
    for _ in range(5):
        tab_to(page, "#recording .upload-container")
        try:
            with page.expect_file_chooser(timeout=10_000) as chooser:
                page.keyboard.press("Enter")
        except playwright.TimeoutError:
            continue
        chooser.value.set_files(recording)
        return
    raise AssertionError("Enter opens no file chooser.")


def test_a_recording_is_restored_and_heard_without_a_mouse(visit, tmp_path):
    page = visit()
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 20.0)
    choose_by_key(page, recording)
    wait_for_result(page, recording)
    line = page.text_content("#player .command pre")
    tab_to(page, "#restore")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.querySelector('#player .command pre')?.textContent !== before",
        arg=line,
    )
    wait_for_result(page, recording)
    tab_to(page, "#player .play")
    page.keyboard.press("Space")
    page.wait_for_function(f"{PLAYER}?.position() > 4800")
    page.keyboard.press("Space")
    tab_to(page, "#player .view")
    page.keyboard.press("Home")
    assert page.evaluate(f"{PLAYER}.position()") == 0
    tab_to(page, "#player .download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "song.lily.wav"


def test_a_run_is_stopped_by_key_and_the_focus_stays_on_the_page(visit, tmp_path):
    page = visit()
    noise = np.random.default_rng(3).normal(0, 0.1, 50 * 8_000)
    soundfile.write(tmp_path / "long.wav", noise, 8_000)
    choose_steps(page, 12)
    start(page, tmp_path / "long.wav")
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    tab_to(page, "#stop")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chunk-map [data-phase='stopped']")
    page.wait_for_function("document.activeElement?.id === 'restore'")
