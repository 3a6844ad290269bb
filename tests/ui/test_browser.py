"""The page as a visitor meets it: the real app, the bundled model, Debian's Chromium.

Recordings are made from seeds. Every page records its requests: none may leave for another host.
"""

from __future__ import annotations

import pytest
import soundfile
from browser import DONE, LEGIBLE, NEEDED, PLAYER, fetch, start, states, wait_for_result
from fakes import write_recording

pytestmark = NEEDED


def test_the_page_opens_on_an_example_that_plays_at_one_click(visit):
    page = visit()
    page.wait_for_function(f"{PLAYER}?.frames === 480000")
    page.click("#player .play")
    page.wait_for_function(f"{PLAYER}?.position() > 0")
    page.click("#player .sources button:has-text('Before')")
    assert page.evaluate(f"{PLAYER}.levels") == {"input": 1}
    page.click("#player .sources button:has-text('After')")
    page.check("#player .highs-only")
    assert page.evaluate(f"{PLAYER}.levels") == {"input": 0, "on": 1}
    page.get_by_role("button", name="Cut off midway").click()
    page.wait_for_selector("#player .title:has-text('loses its highs')")
    page.wait_for_function(f"{PLAYER}?.frames === 672000")
    assert not page.evaluate(f"{PLAYER}.playing")
    assert page.inner_text("#chunk-map").startswith("A recording is restored as soon")


@pytest.mark.parametrize(
    ("sample_rate", "channels", "cutoff_hz"), [(8_000, 1, 3_600), (44_100, 2, 9_000)]
)
def test_a_recording_goes_up_and_comes_down_at_48_khz(
    visit, tmp_path, sample_rate, channels, cutoff_hz
):
    page = visit()
    recording = write_recording(
        tmp_path / "take.wav", sample_rate, channels, 4.3, cutoff_hz=cutoff_hz
    )
    start(page, recording, steps=4)  # at the default of two, a step is over in a blink
    wait_for_result(page, recording)
    assert states(page.evaluate("window.seen")) == ["waiting", "sampling", "done"]
    assert page.locator("#player .sources button").all_inner_texts() == ["Before", "After"]
    path = fetch(page, tmp_path)
    assert path.name == "take.lily.wav"
    info, given = soundfile.info(path), soundfile.info(recording)
    assert (info.samplerate, info.channels) == (48_000, channels)
    assert info.frames == -(-given.frames * 48_000 // sample_rate)
    page.click("#player .figures summary")
    facts = page.inner_text("#player .facts")
    for name in ("Lowest cutoff", "Chunks", "Speed", "Seed", "Steps", "Model"):
        assert name in facts
    assert "python -m lily upsample take.wav" in page.inner_text("#player .command pre")
    # A reload loses nothing: the result is in the browser's list.
    page.reload()
    page.click("#player .library summary")
    page.click("#player .library li button:has-text('take.wav')")
    page.wait_for_selector("#player .title:text-is('take.wav')")
    page.wait_for_function(f"{PLAYER}?.frames > 200000")


def test_a_bad_file_is_told_and_the_next_good_one_works(visit, tmp_path):
    page = visit()
    bad = tmp_path / "bad.wav"
    bad.write_text("this is not audio")
    start(page, bad)
    page.wait_for_selector("#chunk-map [data-phase='error']")
    assert "bad.wav" in page.inner_text("#chunk-map .text")
    assert not page.locator("[data-testid='toast-body']").count()
    page.locator("#recording").get_by_label("Clear").click()
    good = write_recording(tmp_path / "good.wav", 8_000, 1, 2.0)
    start(page, good)
    wait_for_result(page, good)
    assert soundfile.info(fetch(page, tmp_path, "mp3")).samplerate == 48_000


def test_a_file_that_is_not_called_audio_is_answered_in_a_sentence_and_not_by_a_list_of_types(
    visit, tmp_path
):
    page = visit()
    notes = tmp_path / "notes.txt"
    notes.write_text("buy milk")
    page.wait_for_selector("#recording input[type=file][multiple]", state="attached")
    page.set_input_files("#recording input[type=file]", notes)
    page.wait_for_selector("#chunk-map [data-phase='error']")
    assert "notes.txt is not audio" in page.inner_text("#chunk-map .text")
    assert not page.locator("#queue .queue").is_visible()  # one file has one place
    assert page.inner_text("#recording label").strip() == "notes.txt"
    assert not page.locator("[data-testid='toast-body']").count()


def test_a_full_band_recording_comes_back_with_a_message(visit, tmp_path):
    page = visit()
    recording = write_recording(tmp_path / "full.wav", 48_000, 2, 2.0)
    start(page, recording)
    wait_for_result(page, recording)
    assert "full" in page.inner_text("#player .summary")
    assert page.locator("#player .sources button").all_inner_texts() == ["Recording"]


def test_stop_ends_a_run_and_the_page_goes_on(visit, tmp_path):
    page = visit()
    start(page, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), steps=40)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    assert "left" in page.inner_text("#chunk-map .clock")
    page.click("#stop")
    page.wait_for_selector("#chunk-map [data-phase='stopped']")
    page.locator("#recording").get_by_label("Clear").click()
    short = write_recording(tmp_path / "short.wav", 8_000, 1, 2.0)
    start(page, short, steps=2)
    wait_for_result(page, short)


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
    page.wait_for_selector("#restore:enabled")
    assert page.locator("#stop").is_disabled()


def test_visitors_who_wait_see_how_many_are_before_them_and_for_how_long(visit, tmp_path):
    first, second, third = visit(), visit(), visit()
    start(first, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), steps=40)
    first.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    start(second, write_recording(tmp_path / "short.wav", 8_000, 1, 2.0), steps=4)
    start(third, write_recording(tmp_path / "third.wav", 8_000, 1, 2.0), steps=4)
    second.wait_for_selector("#chunk-map .text:text-matches('^Waiting: 1 run before yours, about')")
    ends = "^Waiting: 2 runs before yours; the first ends in about [0-9:]+ (s|min)$"
    third.wait_for_selector(f"#chunk-map .text:text-matches('{ends}')")
    assert third.inner_text("#chunk-map .live") == "Waiting: 2 runs before yours"
    first.context.close()  # a visitor who goes away frees the engine
    second.wait_for_selector(DONE)
    third.wait_for_selector(DONE)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_first_screen_has_the_button_and_every_text_can_be_read(visit, theme, width, height):
    page = visit(width, height, theme)
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for role, name in [
        ("button", "Restore"),
        ("button", "Stop"),
        ("checkbox", "Compare encoder off and on"),
        ("button", "Play"),
        ("button", "Before"),
        ("slider", "Position"),
        ("checkbox", "Highs only"),
        ("slider", "Level of the highs (dB)"),
    ]:
        assert page.get_by_role(role, name=name).first.is_visible(), f"{role} {name}"
    box = page.locator("#restore").bounding_box()
    assert box["y"] + box["height"] < height
    page.get_by_role("button", name="Settings").click()
    page.click("#player .blind summary")
    page.wait_for_timeout(500)  # colours fade in
    pale, small = page.evaluate(LEGIBLE)
    assert not pale and not small
