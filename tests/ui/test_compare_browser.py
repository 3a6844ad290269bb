"""The player as a visitor meets it: switching keeps the playhead, seek, loop, mix, ABX, Stop."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
from browser import DONE, NEEDED, PLAYER, fetch, start, states, wait_for_result
from fakes import write_recording

pytestmark = NEEDED

GAP_SECONDS = 0.005  # how far the playhead may be from the clock after switching


@pytest.fixture
def compared(visit, tmp_path):
    """A page on which a comparison of eight seconds is done, and its recording."""
    page = visit()
    recording = write_recording(tmp_path / "song.wav", 16_000, 2, 8.0, cutoff_hz=7_000)
    start(page, recording, compare=True)
    wait_for_result(page, recording)
    return page, recording


def position(page) -> float:
    """Where the player is, in seconds."""
    return page.evaluate(PLAYER + ".position() / 48000")


def test_both_rows_advance_and_the_facts_can_be_read(compared):
    page, _ = compared
    seen = page.evaluate("window.seen")
    assert states(seen, 0)[-1] == states(seen, 1)[-1] == "done"
    names = page.locator("#player .sources button").all_inner_texts()
    assert names == ["Before", "Encoder off", "Encoder on"]
    page.click("#player .figures summary")
    facts = page.inner_text("#player .facts")
    for name in ("On differs from off by", "Lowest cutoff", "Seed", "Steps", "Model"):
        assert name in facts
    assert "python -m lily compare song.wav" in page.inner_text("#player .command pre")
    assert page.locator("#player .files a").count() == 2


def test_switching_while_playing_keeps_the_playhead_and_the_sound(compared):
    page, _ = compared
    page.click("#player .play")
    page.wait_for_function(PLAYER + ".position() > 0")
    drift = page.evaluate(
        """async () => {
          const player = PLAYER;
          const buttons = [...document.querySelectorAll('#player .sources button')];
          // Silence would show as a gap: listen to what reaches the speakers.
          const ear = new AnalyserNode(player.context, {fftSize: 2048});
          Object.values(player.gains).forEach((gain) => gain.connect(ear));
          const heard = new Float32Array(2048);
          // The audio thread may move the time between two looks at it: read both at one moment.
          const clock = () => {
            for (;;) {
              const now = player.context.currentTime;
              const place = player.position() / 48000;
              if (player.context.currentTime === now) return place - now;
            }
          };
          const before = clock();
          const drifts = [], levels = [];
          for (let i = 0; i < 24; i += 1) {
            buttons[i % buttons.length].click();
            await new Promise((done) => setTimeout(done, 60));
            drifts.push(clock() - before);
            ear.getFloatTimeDomainData(heard);
            levels.push(Math.max(...heard.map(Math.abs)));
          }
          return {drifts, levels, playing: player.playing};
        }""".replace("PLAYER", PLAYER)
    )
    assert drift["playing"]
    assert max(map(abs, drift["drifts"])) < GAP_SECONDS
    assert min(drift["levels"]) > 1e-3


def test_keys_choose_play_and_move_wherever_the_focus_is(compared):
    page, _ = compared
    page.click("#player .sources button:has-text('Encoder off')")  # the focus stays there
    for key, name in (("1", "Before"), ("2", "Encoder off"), ("3", "Encoder on")):
        page.keyboard.press(key)
        assert page.inner_text("#player .sources [aria-pressed=true]") == name
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(2.0)
    page.keyboard.press("ArrowLeft")
    assert position(page) == pytest.approx(0.0)
    page.keyboard.press("Space")
    page.wait_for_function(PLAYER + ".position() > 48000")
    assert page.inner_text("#player .sources [aria-pressed=true]") == "Encoder on"
    page.keyboard.press("Space")
    stopped = position(page)
    page.wait_for_timeout(200)
    assert position(page) == stopped > 1.0
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Seed").focus()
    page.keyboard.type("12 3")  # in a text they are letters
    assert position(page) == stopped


def test_a_click_goes_there_and_a_drag_loops(compared):
    page, _ = compared
    canvas = page.locator("#player canvas")
    box = canvas.bounding_box()
    left, width = 34, box["width"] - 35  # of the plot

    def at(seconds):
        return box["x"] + left + width * seconds / 8.0

    y = box["y"] + 150
    page.mouse.click(at(4.0), y)
    assert position(page) == pytest.approx(4.0, abs=0.05)
    page.mouse.move(at(1.0), y)
    page.mouse.down()
    page.mouse.move(at(1.2), y)
    page.mouse.move(at(1.4), y)
    page.mouse.up()
    page.click("#player .play")
    seen = []
    for _ in range(15):
        page.wait_for_timeout(100)
        seen.append(position(page))
    assert all(0.95 <= place <= 1.45 for place in seen)
    assert any(b < a for a, b in zip(seen, seen[1:], strict=False)), "it never went round"
    page.click("#player .loop")
    page.wait_for_function(PLAYER + ".position() > 1.6 * 48000")
    page.click("#player .play")
    page.evaluate(PLAYER + ".seek(3 * 48000)")  # without a mouse
    names = []
    for keys in (["l", "ArrowLeft"], ["l"], ["l"]):
        for key in keys:
            page.keyboard.press(key)
        names.append(page.inner_text("#player .loop"))
    assert names == [
        "Loop from 0:03.0 to here",
        "End the loop of 0:01.0 to 0:03.0",
        "Loop from here",
    ]


def test_the_picture_changes_with_the_source_and_shows_the_cutoff(compared):
    page, _ = compared
    colours = """() => {
      const canvas = document.querySelector('#player canvas');
      const {plot, scale} = document.querySelector('#player .player').parentElement.spectrum;
      const above = canvas.getContext('2d').getImageData(plot.left * scale + 5,
        (plot.top + 0.45 * plot.height) * scale, plot.width * scale * 0.6, 9).data;
      return above.reduce((sum, v, i) => sum + (i % 4 < 3 ? v : 0), 0) / above.length;
    }"""
    page.keyboard.press("1")
    page.wait_for_timeout(400)  # it fades
    before = page.evaluate(colours)
    page.keyboard.press("3")
    page.wait_for_timeout(400)
    assert page.evaluate(colours) > before + 15  # what was black has filled


def test_the_highs_are_mixed_without_running_again_and_saved_as_heard(compared, tmp_path):
    page, _ = compared
    page.locator("#player .gain").fill("-6")
    assert page.inner_text("#player .gain-text") == "-6 dB"
    gains = page.evaluate(PLAYER + ".levels")
    assert gains["on"] == pytest.approx(10 ** (-6 / 20))
    assert gains["on"] + gains["input"] == pytest.approx(1.0)
    page.check("#player .highs-only")
    gains = page.evaluate(PLAYER + ".levels")
    assert gains["input"] == pytest.approx(-gains["on"])
    mixed = soundfile.read(fetch(page, tmp_path, "flac"))[0]
    page.locator("#player .gain").fill("0")
    whole = soundfile.read(fetch(page, tmp_path))[0]
    page.locator("#player .gain").fill("-30")
    low = soundfile.read(fetch(page, tmp_path))[0]
    assert mixed.shape == whole.shape == (8 * 48_000, 2)
    # Three mixes of one low band and one high band lie on a line.
    share = (10 ** (-6 / 20) - 10 ** (-30 / 20)) / (1 - 10 ** (-30 / 20))
    assert np.abs(mixed - (low + share * (whole - low))).max() < 1e-6


def test_a_blind_test_hides_its_answers_and_ends_in_a_p_value(compared, tmp_path):
    page, _ = compared
    page.click("#player .blind summary")
    asked = page.locator("#player .pair option").all_inner_texts()
    assert asked == ["before and encoder on", "encoder off and encoder on"]
    page.locator("#player .pair").select_option(index=1)
    page.locator("#player .trials").fill("6")
    page.click("#player .start")
    assert not page.locator("#player .sources").is_visible()
    for trial in range(6):
        assert f"Trial {trial + 1} of 6" in page.inner_text("#player .count")
        page.keyboard.press("a")
        assert page.inner_text("#player .letters [aria-pressed=true]") == "A"
        assert not page.locator("#player .verdict").is_visible()
        # A listener who can hear the difference: X's gains tell, as its sound would.
        page.keyboard.press("x")
        truth = "B" if "on" in page.evaluate(f"Object.keys({PLAYER}.levels)") else "A"
        page.click(f"#player .answer[data-letter={truth}]")
    assert "6 of 6 right" in page.inner_text("#player .verdict .text")
    with page.expect_download() as download:
        page.click("#player .keep")
    told = json.loads(download.value.path().read_text())
    assert told["right"] == told["trials"] == 6
    assert told["p_value"] == pytest.approx(1 / 64)
    assert len(told["answers"]) == 6 and page.locator("#player .sources").is_visible()


def test_a_reference_is_a_fourth_source_with_distances(visit, tmp_path):
    page = visit()
    original = write_recording(tmp_path / "original.wav", 48_000, 1, 4.0)
    samples = soundfile.read(original)[0]
    recording = tmp_path / "low.wav"
    soundfile.write(recording, samples[::6], 8_000)
    page.get_by_role("button", name="Settings").click()
    with page.expect_response(lambda response: "/upload" in response.url):
        page.set_input_files("#reference input[type=file]", original)
    page.wait_for_selector("#reference audio, #reference [data-testid^=waveform]", state="attached")
    start(page, recording)
    wait_for_result(page, recording)
    page.wait_for_selector("#player .sources button:has-text('Reference')")
    page.keyboard.press("4")
    page.click("#player .figures summary")
    table = page.inner_text("#player .scores")
    assert re.search(r"Before\s+\d", table) and "the reference than the recording" in table
    assert re.search(r"Encoder off\s+\d\.\d+\s+\d\.\d+\s+\d\.\d+", table)
    assert page.locator("#player .pair option").count() == 4


def test_stop_ends_a_comparison_and_its_finished_chunks_play(visit, tmp_path):
    page = visit()
    recording = write_recording(tmp_path / "long.wav", 8_000, 2, 50.0)
    start(page, recording, compare=True, steps=12)
    page.wait_for_selector("#chunk-map .row:nth-child(2) .cell[data-state='done']")
    page.click("#stop")
    page.wait_for_selector("#chunk-map [data-phase='stopped']")
    page.wait_for_selector("#player .badge:has-text('stopped early')")
    assert "Stopped early" in page.inner_text("#player .summary")
    page.wait_for_function(PLAYER + "?.frames > 48000")
    assert page.evaluate(PLAYER + ".frames") < 50 * 48_000
    page.click("#player .play")
    page.wait_for_function(PLAYER + ".position() > 4800")
    assert page.locator("#restore").is_enabled() and page.locator("#stop").is_disabled()


def test_a_visitor_who_goes_away_frees_the_engine_for_the_next(visit, tmp_path):
    first, second = visit(), visit()
    start(first, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), compare=True, steps=40)
    first.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    start(second, write_recording(tmp_path / "short.wav", 8_000, 1, 2.0), compare=True, steps=4)
    second.wait_for_selector("#chunk-map:has-text('1 run before yours')")
    first.context.close()
    second.wait_for_selector(DONE)
