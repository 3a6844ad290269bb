"""Another take of one chunk in a browser: asked for, heard beside the others, and kept."""

from __future__ import annotations

import numpy as np
import soundfile
from browser import DONE, NEEDED, PLAYER, fetch, start, wait_for_result
from fakes import write_recording

pytestmark = NEEDED
SOURCES = "#player .sources button"


def another(page, takes: int) -> None:
    """Ask for another take and wait until there are so many."""
    page.click("#player .another")
    page.wait_for_selector(f"{SOURCES}:text-is('Take {takes}')")
    page.wait_for_selector(DONE)
    page.wait_for_function(f"{PLAYER}?.frames > 0")


def test_a_chunk_is_taken_again_and_the_best_take_is_kept(visit, tmp_path):
    page = visit()
    recording = write_recording(tmp_path / "song.wav", 16_000, 1, 12.0, cutoff_hz=7_000)
    start(page, recording)
    wait_for_result(page, recording)
    page.wait_for_selector("#player .save:visible")
    plain = soundfile.read(fetch(page, tmp_path))[0]
    page.evaluate(f"{PLAYER}.seek(6 * 48000)")
    page.wait_for_selector("#player .another:has-text('here')")
    another(page, 2)
    assert page.locator(SOURCES).all_inner_texts() == ["Before", "Take 1", "Take 2"]
    loop = page.evaluate(f"[{PLAYER}.loop.start, {PLAYER}.loop.stop]")
    assert loop[0] <= 6 * 48_000 < loop[1] < 12 * 48_000
    another(page, 3)
    page.click(f"{SOURCES}:text-is('Take 2')")
    page.click("#player .keep-take")
    page.wait_for_selector(f"{SOURCES}:text-is('After')")
    assert page.locator(SOURCES).count() == 2
    page.click("#player .figures summary")
    line = page.text_content("#player .command pre")
    assert "--takes" in line and "--seed" in line
    (tmp_path / "kept").mkdir()
    kept = soundfile.read(fetch(page, tmp_path / "kept"))[0]
    changed = np.flatnonzero(kept != plain)
    # The vocoder and the filters see half a second to each side.
    assert len(changed) and loop[0] - 0.6 * 48_000 < changed[0]
    assert changed[-1] < loop[1] + 0.6 * 48_000
    page.click("#restore")  # the same again is a new run, not the kept chunks
    page.wait_for_function(
        "before => document.querySelector('#player .command pre')?.textContent !== before",
        arg=line,
    )
    wait_for_result(page, recording)
    page.wait_for_selector(f"{SOURCES}:text-is('After')")
    assert "Resumed" not in page.inner_text("#player .summary")
    page.get_by_role("button", name="Music", exact=True).click()
    page.wait_for_selector("#player .title:has-text('Music')")
    page.wait_for_function(f"{PLAYER}?.frames === 480000")
    assert not page.locator("#player .takes").is_visible()
    assert len(kept) == 12 * 48_000
