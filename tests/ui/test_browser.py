"""The page as a visitor meets it: the real app, the bundled model, Debian's Chromium.

Recordings are made from seeds. Every page records its requests: none may leave for another host.
"""

from __future__ import annotations

import pytest
import soundfile
from browser import DONE, NEEDED, fetch, start, states
from fakes import write_recording

pytestmark = NEEDED


@pytest.mark.parametrize(
    ("sample_rate", "channels", "cutoff_hz"),
    [(8_000, 1, 3_600), (16_000, 2, 7_000), (44_100, 2, 9_000)],
)
def test_a_recording_goes_up_and_comes_down_at_48_khz(
    visit, tmp_path, sample_rate, channels, cutoff_hz
):
    page = visit()
    recording = write_recording(
        tmp_path / "take.wav", sample_rate, channels, 7.3, cutoff_hz=cutoff_hz
    )
    start(page, recording, steps=8)  # at the default of two, a step is over in a blink
    page.wait_for_selector(DONE)
    seen = page.evaluate("window.seen")
    assert states(seen) == ["waiting", "sampling", "done"]
    steps = {step for picture in seen for row in picture for state, step in row if step}
    assert len(steps) > 1, "the step of a sampling chunk never moved"
    path = fetch(page, tmp_path)
    info, given = soundfile.info(path), soundfile.info(recording)
    assert (info.samplerate, info.channels) == (48_000, channels)
    assert info.frames == -(-given.frames * 48_000 // sample_rate)
    facts = page.inner_text("#take .facts")
    for name in ("Cutoff", "Chunks", "Real-time factor", "Seed", "Steps", "Model"):
        assert name in facts
    page.wait_for_selector("#take img")
    assert "python -m lily upsample take.wav" in page.input_value("#command textarea")


def test_a_bad_file_is_told_and_the_next_good_one_works(visit, tmp_path):
    page = visit()
    bad = tmp_path / "bad.wav"
    bad.write_text("this is not audio")
    start(page, bad)
    page.wait_for_selector("#chunk-map [data-phase='error']")
    assert "bad.wav" in page.inner_text("#chunk-map .text")
    assert "bad.wav" in page.inner_text("[data-testid='toast-body']")
    page.locator("#recording").get_by_label("Clear").click()
    start(page, write_recording(tmp_path / "good.wav", 8_000, 1, 3.0), steps=4)
    page.wait_for_selector(DONE)
    assert soundfile.info(fetch(page, tmp_path)).samplerate == 48_000


def test_a_full_band_recording_comes_back_with_a_message(visit, tmp_path):
    page = visit()
    start(page, write_recording(tmp_path / "full.wav", 48_000, 2, 2.0))
    page.wait_for_selector(DONE)
    assert "full" in page.inner_text("#take .note")
    assert page.inner_text("#take h3") == "Unchanged"


def test_stop_ends_a_run_and_the_page_goes_on(visit, tmp_path):
    page = visit()
    start(page, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), steps=40)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    page.click("#stop")
    page.wait_for_selector("#chunk-map [data-phase='stopped']")
    page.locator("#recording").get_by_label("Clear").click()
    start(page, write_recording(tmp_path / "short.wav", 8_000, 1, 2.0), steps=4)
    page.wait_for_selector(DONE)


def test_a_run_that_a_full_queue_refuses_gives_the_buttons_back(visit, tmp_path):
    page = visit()
    joined = []

    def answer(route):
        joined.append(route.request.url)
        if len(joined) == 2:  # the first is the click's own answer, the second the run
            route.fulfill(status=503, json={"detail": "The page is busy."})
        else:
            route.continue_()

    page.route("**/queue/join*", answer)
    start(page, write_recording(tmp_path / "take.wav", 8_000, 1, 2.0))
    page.wait_for_selector("[data-testid='toast-body']:has-text('busy')")
    page.wait_for_selector("#run:enabled")
    assert page.locator("#stop").is_disabled()


def test_a_second_visitor_waits_and_sees_the_place(visit, tmp_path):
    first, second = visit(), visit()
    start(first, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), steps=40)
    first.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    start(second, write_recording(tmp_path / "short.wav", 8_000, 1, 2.0), steps=4)
    second.wait_for_selector("#chunk-map .progress-text:has-text('queue: 1/1')")
    first.context.close()  # a visitor who goes away frees the engine
    second.wait_for_selector(DONE)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_and_names_its_controls(visit, theme):
    page = visit(390, 844, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for role, name in [
        ("radio", "off"),
        ("tab", "Compare"),
        ("button", "Run"),
        ("button", "Stop"),
        ("textbox", "Seed"),
        ("slider", "range slider for Steps"),
        ("combobox", "Model preset"),
    ]:
        assert page.get_by_role(role, name=name).first.is_visible(), f"{role} {name}"
