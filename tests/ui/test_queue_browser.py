"""Several recordings dropped at once: a row each, bad ones among good ones, one ZIP at the end."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import soundfile
from browser import NEEDED, PLAYER, choose_steps, drop_file, start, wait_for_result
from fakes import write_recording

pytestmark = NEEDED
ROW = "#queue .rows li"
LEFT = f"{ROW}:not([data-state=done], [data-state=failed], [data-state=stopped])"


def drop(page, *paths) -> None:
    """Choose several files in the recording's own field."""
    page.wait_for_selector("#recording input[type=file][multiple]", state="attached")
    page.set_input_files("#recording input[type=file]", list(paths))


def wait_for_the_end(page) -> list[tuple[str, str, str]]:
    """Every row's name, state and text once no row is left."""
    page.wait_for_selector(f"{ROW}[data-state]")
    page.wait_for_function("s => !document.querySelector(s)", arg=LEFT)
    rows = page.locator(ROW).all()
    return [
        (
            row.locator(".file").inner_text(),
            row.get_attribute("data-state"),
            row.locator(".text").inner_text(),
        )
        for row in rows
    ]


def test_good_and_bad_files_have_a_row_each_and_the_good_ones_one_zip(visit, tmp_path):
    page = visit()
    first = write_recording(tmp_path / "first.wav", 8_000, 1, 3.0)
    broken = tmp_path / "broken.wav"
    broken.write_text("this is not audio")
    notes = tmp_path / "notes.txt"
    notes.write_text("buy milk")
    (tmp_path / "more").mkdir()
    again = write_recording(tmp_path / "more" / "first.wav", 16_000, 2, 2.0, cutoff_hz=7_000)
    full = write_recording(tmp_path / "full & loud.wav", 48_000, 1, 1.0)
    drop(page, first, broken, notes, again, full)
    rows = wait_for_the_end(page)
    assert [state for _, state, _ in rows] == ["done", "failed", "failed", "done", "done"]
    assert [name for name, _, _ in rows][:4] == [
        "first.wav",
        "broken.wav",
        "notes.txt",
        "first.wav",
    ]
    assert "broken.wav" in rows[1][2] and "notes.txt" in rows[2][2]
    assert not page.locator("[data-testid='toast-body']").count()
    assert page.inner_text("#queue .title") == "3 of 5 recordings restored"
    with page.expect_download() as download:
        page.click("#queue .all")
    assert download.value.suggested_filename == "lily.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        infos = {n: soundfile.info(io.BytesIO(archive.read(n))) for n in archive.namelist()}
    assert list(infos)[:2] == ["first.lily.wav", "first.lily.2.wav"] and len(infos) == 3
    frames = [(info.samplerate, info.channels, info.frames) for info in infos.values()]
    assert frames == [(48_000, 1, 144_000), (48_000, 2, 96_000), (48_000, 1, 48_000)]
    page.locator(ROW).first.get_by_role("button", name="Show first.wav").click()
    page.wait_for_function(f"{PLAYER}?.frames === 144000")
    page.click("#queue .clear")
    assert not page.locator("#queue .queue").is_visible()


def test_stop_keeps_what_is_done_and_the_rest_can_follow(visit, tmp_path):
    page = visit()
    short = write_recording(tmp_path / "short.wav", 8_000, 1, 2.0)
    noise = np.random.default_rng(3).normal(0, 0.1, 50 * 8_000)
    soundfile.write(tmp_path / "long.wav", noise, 8_000)
    last = write_recording(tmp_path / "last.wav", 8_000, 1, 2.5)
    choose_steps(page, 12)
    drop(page, short, tmp_path / "long.wav", last)
    page.wait_for_selector(f"{ROW}[data-state=done]")
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    page.click("#stop")
    states = [state for _, state, _ in wait_for_the_end(page)]
    assert states == ["done", "stopped", "stopped"]
    page.get_by_role("button", name="Restore the rest").click()
    page.wait_for_function("s => !document.querySelector(s)", arg=f"{ROW}[data-state=stopped]")
    states = [state for _, state, _ in wait_for_the_end(page)]
    assert states == ["done", "done", "done"]


def test_a_drop_anywhere_is_restored_and_never_leaves_the_page(visit, tmp_path):
    page = visit()
    first = write_recording(tmp_path / "first.wav", 8_000, 1, 2.0)
    second = write_recording(tmp_path / "second.wav", 8_000, 1, 2.5)
    third = write_recording(tmp_path / "third.wav", 8_000, 1, 3.0)
    choose_steps(page, 12)
    start(page, first)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    assert drop_file(page, "#recording .audio-container", second)  # it holds a recording
    assert page.inner_text("#queue .title") == "1 recording: 0 done, 1 to go"  # until the run ends
    assert drop_file(page, "#recording .audio-container", third)
    assert page.inner_text("#queue .title") == "2 recordings: 0 done, 2 to go"
    wait_for_result(page, third)
    states = [(name, state) for name, state, _ in wait_for_the_end(page)]
    assert states == [("second.wav", "done"), ("third.wav", "done")]
    assert drop_file(page, "#player canvas", second)
    wait_for_result(page, second)
    assert page.inner_text("#recording label").strip() == "second.wav"
    assert drop_file(page, "#reference", first)  # which has fields of its own
    page.wait_for_timeout(500)
    assert page.inner_text("#player .title") == "second.wav"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_rows_can_be_read_on_a_phone(visit, tmp_path, theme):
    page = visit(390, 844, theme)
    broken = tmp_path / "a recording with a rather long name that is broken.wav"
    broken.write_text("this is not audio")
    drop(page, write_recording(tmp_path / "a.wav", 8_000, 1, 2.0), broken)
    wait_for_the_end(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("#queue button").all():
        if button.is_visible():
            assert button.bounding_box()["height"] >= 44
