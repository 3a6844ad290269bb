"""The page as a visitor meets it: the real app, the bundled model, Debian's Chromium.

Recordings are made from seeds. Every page records its requests: none may leave for another host.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import soundfile
from fakes import write_recording

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_SECONDS, RUN_SECONDS = 180, 300  # patience, not expectation: the machine may be busy
DONE = "#chunk-map [data-phase='done']"
# Keeps every picture of the chunk map: states seen between two looks would be lost otherwise.
WATCH = """() => {
  window.seen = [];
  const rows = document.querySelector('#chunk-map .rows');
  const look = () => {
    const picture = [...rows.querySelectorAll('.row')].map((row) =>
      [...row.querySelectorAll('.cell')].map((cell) => [cell.dataset.state, +cell.dataset.step]));
    if (JSON.stringify(picture) !== JSON.stringify(window.seen.at(-1))) window.seen.push(picture);
  };
  new MutationObserver(look).observe(rows, {subtree: true, childList: true, attributes: true});
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install -y chromium"
    ),
]
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install playwright"
)


@pytest.fixture(scope="module")
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
        _wait_until_up(url, app, folder / "app.log")
        yield url
    finally:
        app.terminate()
        app.wait(timeout=30)


def _wait_until_up(url: str, app: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"app.py did not come up:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the whole file."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as a new visitor; at the end, no request may have left for another host."""
    contexts, hosts = [], set()

    def open_page(width=1280, height=800, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.set_default_timeout(RUN_SECONDS * 1000)
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlparse(request.url).netloc))
        page.on("pageerror", lambda error: pytest.fail(f"JavaScript error: {error}"))
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector("#chunk-map [data-phase='idle']")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts - {""} == {urlparse(address).netloc}  # "": data: and blob: addresses


def start(page, recording: Path, encoder: str = "on", steps: int | None = None) -> None:
    """Upload, choose, press Run."""
    with page.expect_response(lambda response: "/upload" in response.url):
        page.set_input_files("#recording input[type=file]", recording)
    page.wait_for_selector("#recording audio, #recording [data-testid^=waveform]", state="attached")
    page.get_by_role("radio", name=encoder, exact=True).check()
    if steps is not None:
        page.get_by_label("number input for Steps").fill(str(steps))
    page.evaluate(WATCH)
    page.click("#run")


def fetch(page, folder: Path, card: int = 0) -> Path:
    """Press Download and keep the file."""
    with page.expect_download() as download:
        page.click(f"#take-{card} a[download], #take-{card} button:has-text('Download')")
    path = folder / "fetched" / download.value.suggested_filename
    download.value.save_as(path)
    return path


def states(seen, row: int = 0) -> list[str]:
    """The states of a row's chunks in the order they first appeared."""
    order = []
    for picture in seen:
        for state, _ in picture[row] if row < len(picture) else []:
            if state not in order:
                order.append(state)
    return order


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
    start(page, recording)
    page.wait_for_selector(DONE)
    seen = page.evaluate("window.seen")
    assert states(seen) == ["waiting", "sampling", "done"]
    steps = {step for picture in seen for row in picture for state, step in row if step}
    assert len(steps) > 1, "the step of a sampling chunk never moved"
    path = fetch(page, tmp_path)
    info, given = soundfile.info(path), soundfile.info(recording)
    assert (info.samplerate, info.channels) == (48_000, channels)
    assert info.frames == -(-given.frames * 48_000 // sample_rate)
    facts = page.inner_text("#take-0 .facts")
    for name in ("Cutoff", "Chunks", "Real-time factor", "Seed", "Steps", "Model"):
        assert name in facts
    page.wait_for_selector("#take-0 .slider-wrap img, #take-0 img")
    assert "python -m lily upsample take.wav" in page.input_value("#command textarea")


def test_both_shows_two_rows_and_two_labelled_results_of_one_seed(visit, tmp_path):
    page = visit()
    start(page, write_recording(tmp_path / "b.wav", 16_000, 1, 6.0), "both", steps=4)
    page.wait_for_selector(DONE)
    seen = page.evaluate("window.seen")
    assert states(seen, 0) == states(seen, 1) == ["waiting", "sampling", "done"]
    titles = [page.inner_text(f"#take-{i} h3") for i in (0, 1)]
    assert titles == ["Encoder off", "Encoder on"]
    seeds = [page.inner_text(f"#take-{i} .facts div:has(dt:text-is('Seed')) dd") for i in (0, 1)]
    assert seeds[0] == seeds[1]
    names = {fetch(page, tmp_path, card).name for card in (0, 1)}
    assert names == {"b.off.wav", "b.on.wav"}


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
    assert "full" in page.inner_text("#take-0 .note")
    assert page.inner_text("#take-0 h3") == "Unchanged"


def test_stop_ends_a_run_and_the_page_goes_on(visit, tmp_path):
    page = visit()
    start(page, write_recording(tmp_path / "long.wav", 8_000, 2, 50.0), steps=40)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    page.click("#stop")
    page.wait_for_selector("#chunk-map [data-phase='stopped']")
    page.locator("#recording").get_by_label("Clear").click()
    start(page, write_recording(tmp_path / "short.wav", 8_000, 1, 2.0), steps=4)
    page.wait_for_selector(DONE)


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
        ("radio", "both"),
        ("button", "Run"),
        ("button", "Stop"),
        ("textbox", "Seed"),
        ("slider", "range slider for Steps"),
        ("combobox", "Model preset"),
    ]:
        assert page.get_by_role(role, name=name).first.is_visible(), f"{role} {name}"


def test_a_program_calls_upsample(address, tmp_path):
    from gradio_client import Client, handle_file

    recording = write_recording(tmp_path / "api.wav", 16_000, 2, 3.0)
    client = Client(address, verbose=False)
    files, told = client.predict(handle_file(str(recording)), steps=4, seed=1, api_name="/upsample")
    assert soundfile.info(files[0]).frames == 3 * 48_000
    assert told["results"][0]["seed"] == 1
    assert told["results"][0]["chunks"] >= 1
