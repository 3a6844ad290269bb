"""Trouble around a run is answered in a sentence where one looks, and the page still works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from browser import DONE, NEEDED, PLAYER, RUN_SECONDS, start, wait_for_result
from fakes import write_recording
from live import App, free_port, running

from lily.checkpoints.resolve import BUNDLED, bundled_folder

pytestmark = NEEDED
ENTRY = "#player .library li"
# What a browser does whose storage is switched off, and one whose storage is full.
FORBIDDEN = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }});"
FULL = "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); };"


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[App]:
    """An app whose first model has lost half of its weights."""
    folder = tmp_path_factory.mktemp("adversity")
    model = folder / "torn"
    shutil.copytree(bundled_folder(BUNDLED), model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with running(folder, LILY_MODEL=str(model)) as found:
        yield found


@pytest.fixture
def page(browser, app):
    """The page of that app, on which the bundled model is chosen."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(RUN_SECONDS * 1000)
    opened = context.new_page()
    visit(opened, app)
    choose_model(opened)
    yield opened
    context.close()


def visit(page, app) -> None:
    """Open the page and wait until its example can be played."""
    page.goto(app.url)
    page.wait_for_selector("#chunk-map [data-phase='idle']")
    page.wait_for_function(f"{PLAYER}?.frames > 0")


def choose_model(page) -> None:
    """Choose the bundled model, which is whole."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name=BUNDLED).click()
    page.wait_for_timeout(500)  # for the numbers of the model


def toasts(page) -> int:
    """Gradio's messages, which would cover something."""
    return sum(toast.is_visible() for toast in page.locator("[data-testid='toast-body']").all())


def test_a_model_that_cannot_be_loaded_is_a_sentence_and_another_one_runs(browser, app, tmp_path):
    page = browser.new_page()
    page.set_default_timeout(RUN_SECONDS * 1000)
    visit(page, app)
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 2.0)
    start(page, recording)
    page.wait_for_selector("#chunk-map [data-phase='error']")
    text = page.inner_text("#chunk-map .text")
    assert "model.safetensors" in text and "Traceback" not in text and not toasts(page)
    choose_model(page)
    page.click("#restore")
    wait_for_result(page, recording)
    page.close()


@pytest.mark.parametrize("storage", [FORBIDDEN, FULL])
def test_a_browser_that_keeps_nothing_says_so_and_the_result_is_there(
    browser, app, tmp_path, storage
):
    page = browser.new_page()
    page.set_default_timeout(RUN_SECONDS * 1000)
    page.add_init_script(storage)
    visit(page, app)
    assert not page.locator("#player .forgetful").is_visible()
    choose_model(page)
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 2.0)
    start(page, recording)
    wait_for_result(page, recording)
    assert "download what you want to keep" in page.inner_text("#player .forgetful")
    assert page.locator("#player .download").is_enabled()
    page.close()


def test_a_result_that_has_expired_says_so_where_it_was_asked_for(page, app, tmp_path):
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 25.0)
    start(page, recording)
    wait_for_result(page, recording)
    page.wait_for_selector("#player .save:visible")
    for folder in app.cache.glob("lily-*"):
        shutil.rmtree(folder)
    page.evaluate(f"{PLAYER}.segments.clear()")
    page.click("#player .play")
    page.wait_for_selector("#player .error:visible")
    assert "has expired on the server; restore" in page.inner_text("#player .error")
    page.click("#player .download")
    page.wait_for_selector("#player .error:has-text('has expired')")
    assert page.locator("#player .download").is_enabled() and not toasts(page)
    page.reload()
    page.click("#player .library summary")
    page.locator(f"{ENTRY} button").first.click()
    page.wait_for_selector("#player .error:has-text('was taken off the list')")
    assert page.locator(ENTRY).count() == 0
    page.get_by_role("button", name="Music", exact=True).click()  # the page still works
    page.wait_for_selector("#player .badge:text-is('Example')")
    page.wait_for_function(f"{PLAYER}?.frames > 0")


def test_two_tabs_know_of_each_other(page, app, tmp_path):
    second = page.context.new_page()
    visit(second, app)
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 30.0)
    start(page, recording, steps=12)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='done']")
    second.wait_for_selector(f"{ENTRY}:has-text('running in another tab')")
    assert page.locator(ENTRY).count() == 0  # in its own it is on show
    wait_for_result(page, recording)
    second.wait_for_function("s => !document.querySelector(s).innerText.includes('tab')", arg=ENTRY)
    second.click(f"{ENTRY} button:has-text('song.wav')")
    second.wait_for_selector("#player .title:text-is('song.wav')")
    second.wait_for_function(f"{PLAYER}?.frames === 30 * 48000")


def test_a_server_that_goes_away_is_said_and_its_return_offers_to_continue(browser, tmp_path):
    port, page = free_port(), browser.new_page()
    page.set_default_timeout(RUN_SECONDS * 1000)
    with running(tmp_path, port) as app:
        visit(page, app)
        start(page, write_recording(tmp_path / "long.wav", 8_000, 1, 50.0), steps=12)
        page.wait_for_selector("#chunk-map .rows .cell[data-state='done']")
        app.process.kill()
    page.wait_for_selector("#chunk-map [data-phase='lost']")
    assert "The server does not answer" in page.inner_text("#chunk-map .text")
    assert page.inner_text("#chunk-map .clock") == "" and not toasts(page)
    with running(tmp_path, port):
        page.wait_for_selector("#chunk-map [data-phase='idle']")  # Gradio opens the page again
        page.wait_for_selector(f"{ENTRY} button:has-text('Continue')")
    page.close()


def test_an_hour_on_a_phone_stays_within_its_screen_and_memory(browser, app, tmp_path):
    path = tmp_path / "hour.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * 8_000)
    soundfile.write(path, np.tile(noise, 60), 8_000)
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    context.set_default_timeout(4 * RUN_SECONDS * 1000)
    page = context.new_page()
    visit(page, app)
    choose_model(page)
    start(page, path)
    page.wait_for_selector("#chunk-map .rows .cell[data-state='done']", state="attached")
    assert page.locator("#chunk-map .cell").count() > 700
    assert "left" in page.inner_text("#chunk-map .clock")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.evaluate("scrollTo(0, 0)")
    bar = page.locator("#chunk-map .bar").bounding_box()
    assert 0 < bar["y"] < 844  # beside the button, without scrolling
    assert (
        page.evaluate("performance.memory.usedJSHeapSize") < 200e6
    )  # the hour is 690 MB as floats
    page.click("#stop")
    page.wait_for_selector("#player .badge:has-text('stopped early')")
    page.wait_for_function(f"{PLAYER}?.frames > 0")
    assert not page.locator(DONE).count() and page.locator("#restore").is_enabled()
    context.close()
