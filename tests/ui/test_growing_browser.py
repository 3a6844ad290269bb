"""An unfinished result: its picture grows, its first part plays, the finished one takes over."""

from __future__ import annotations

from browser import NEEDED, PLAYER, start, wait_for_result
from fakes import write_recording

pytestmark = NEEDED
# Mean brightness above the cutoff, in the first and in the last tenth of the spectrogram.
HIGHS = """() => {
  const canvas = document.querySelector('#player canvas');
  const {plot, scale} = document.querySelector('#player .player').parentElement.spectrum;
  const mean = (share) => {
    const data = canvas.getContext('2d').getImageData(
      (plot.left + share * plot.width) * scale, (plot.top + 0.45 * plot.height) * scale,
      plot.width * scale * 0.06, 9).data;
    return data.reduce((sum, v, i) => sum + (i % 4 < 3 ? v : 0), 0) / data.length;
  };
  return [mean(0.01), mean(0.92)];
}"""


def test_the_result_grows_and_plays_before_its_run_ends(visit, tmp_path):
    page = visit()
    recording = write_recording(tmp_path / "song.wav", 16_000, 1, 40.0, cutoff_hz=7_000)
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    start(page, recording, steps=12)
    page.wait_for_selector("#player .title:text-is('song.wav')")
    page.wait_for_function(f"{PLAYER}?.frames > 4 * 48000 && {PLAYER}.frames < 30 * 48000")
    page.wait_for_timeout(400)  # the pictures fade
    first, last = page.evaluate(HIGHS)
    assert first > last + 15  # the highs are there where they are generated, and only there
    page.click("#player .play")
    page.wait_for_function(f"{PLAYER}?.position() > 4800")
    assert page.locator("#stop").is_enabled()  # still running
    assert not page.locator("#player .save").is_visible()
    early = page.evaluate(f"{PLAYER}.frames")
    page.evaluate(f"{PLAYER}.setLoop(0, 96000)")
    wait_for_result(page, recording)
    page.wait_for_selector("#player .save:visible")
    page.wait_for_function(f"{PLAYER}?.frames === 40 * 48000")
    assert early < 40 * 48_000
    assert page.evaluate(f"{PLAYER}.loop") == {"start": 0, "stop": 96_000}
    page.wait_for_timeout(400)
    first, last = page.evaluate(HIGHS)
    assert abs(first - last) < 40 and last > 15
    assert not page.locator("#player .error").is_visible()


# What the player has of each source in its first four seconds: root mean square, by key.
LEVELS = f"""async () => {{
  const heard = await {PLAYER}.load(0);
  return Object.fromEntries(Object.entries(heard).map(([key, buffer]) => {{
    const samples = buffer.getChannelData(0).subarray(0, 4 * 48000);
    return [key, Math.sqrt(samples.reduce((sum, v) => sum + v * v, 0) / samples.length)];
  }}));
}}"""


def test_both_results_of_a_comparison_grow_and_are_switched_while_it_runs(visit, tmp_path):
    page = visit()
    recording = write_recording(tmp_path / "song.wav", 16_000, 1, 40.0, cutoff_hz=7_000)
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    start(page, recording, compare=True, steps=12)
    page.wait_for_selector("#player .title:text-is('song.wav')")
    page.wait_for_function(f"{PLAYER}?.frames > 4 * 48000 && {PLAYER}.frames < 30 * 48000")
    names = page.locator("#player .sources button").all_inner_texts()
    assert names == ["Before", "Encoder off", "Encoder on"]
    for key in ("2", "3"):
        page.keyboard.press(key)
        page.wait_for_timeout(400)  # the pictures fade
        first, last = page.evaluate(HIGHS)
        assert first > last + 15  # each grows on its own
    levels = page.evaluate(LEVELS)
    assert min(levels.values()) > 0.5 * max(levels.values()) > 0  # sound, not an empty file
    page.click("#player .play")
    page.wait_for_function(f"{PLAYER}?.position() > 4800")
    page.keyboard.press("2")
    assert page.locator("#stop").is_enabled()  # still running
    wait_for_result(page, recording)
    page.wait_for_selector("#player .save:visible")
    page.wait_for_function(f"{PLAYER}?.frames === 40 * 48000")
    assert page.inner_text("#player .sources [aria-pressed=true]") == "Encoder off"  # as chosen
    assert not page.locator("#player .error").is_visible()
