"""What the tests in a real browser share: starting runs, watching the chunk map, keeping files."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_SECONDS, RUN_SECONDS = 180, 150  # patience, not expectation: the machine may be busy
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
# Texts below WCAG AA's contrast of 4.5 to 1, and our own targets below 44 pixels (a range or a box
# counts with its label). What is disabled is exempt.
LEGIBLE = """() => {
  const light = (colour) => colour.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parsed = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      if (getComputedStyle(e).backgroundImage !== 'none') return null;
      const [r, g, b, a = 1] = parsed(getComputedStyle(e).backgroundColor);
      if (a > 0.9) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const pale = [], small = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const own = [...e.childNodes].filter((n) => n.nodeType === 3);
    const text = own.map((n) => n.textContent).join('').trim();
    const ground = behind(e);
    const drawn = e.getBoundingClientRect().width > 0 && !e.closest(':disabled');
    if (!text || !ground || !drawn) continue;
    const [a, b] = [light(parsed(getComputedStyle(e).color).slice(0, 3)), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) pale.push(`${text} ${ratio.toFixed(2)}`);
  }
  for (const e of document.querySelectorAll('#player button, #player select, #player summary, '
      + '#player label, #examples button, #restore, #stop')) {
    const {width, height} = e.getBoundingClientRect();
    if (width && height && height < 44) small.push(e.outerHTML.slice(0, 80));
  }
  return [pale, small];
}"""
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install -y chromium"
    ),
]


PLAYER = "document.querySelector('#player .player').parentElement.player"


def choose_steps(page, steps: int) -> None:
    """Set the number of steps: with many a run can be caught in the middle."""
    field = page.get_by_label("number input for Steps")
    if not field.is_visible():
        page.get_by_role("button", name="Settings").click()
    field.fill(str(steps))
    field.press("Tab")


def start(page, recording: Path, compare: bool = False, steps: int | None = None) -> None:
    """Choose, then upload, which starts the run."""
    if steps is not None:
        choose_steps(page, steps)
    if compare:
        page.get_by_label("Compare encoder off and on").check()
    page.evaluate(WATCH)
    page.set_input_files("#recording input[type=file]", recording)


def drop_file(page, selector: str, path: Path) -> bool:
    """Drop a file as with a mouse; false if the browser would leave the page for it."""
    return page.evaluate(
        """([selector, name, text]) => {
          const data = new DataTransfer();
          const type = name.endsWith('.wav') ? 'audio/wav' : '';
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], name, {type}));
          const options = {bubbles: true, cancelable: true, dataTransfer: data};
          const event = new DragEvent('drop', options);
          return !document.querySelector(selector).dispatchEvent(event);
        }""",
        [selector, path.name, base64.b64encode(path.read_bytes()).decode()],
    )


def wait_for_result(page, recording: Path) -> None:
    """Wait until a recording's result is in the player and can be played."""
    page.wait_for_selector(DONE)
    page.wait_for_selector(f"#player .title:text-is('{recording.name}')")
    page.wait_for_function(f"{PLAYER}?.frames > 0")


def fetch(page, folder: Path, kind: str = "wav24") -> Path:
    """Download what is heard in a format, and keep the file."""
    page.locator("#player .format").select_option(kind)
    with page.expect_download() as download:
        page.click("#player .download")
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


def wait_until_up(url: str, app: subprocess.Popen, log: Path) -> None:
    """Wait for an app to answer; fails with its log if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"app.py did not come up:\n{log.read_text()}")
