"""Unfinished runs in a browser: stopped, left by closing the tab, lost with the server."""

from __future__ import annotations

import pytest
from browser import NEEDED, RUN_SECONDS, start, wait_for_result
from fakes import write_recording
from live import free_port, running

pytestmark = NEEDED
STEPS = 12  # enough that a run can be caught in the middle
UNFINISHED = "#player .library li:has-text('unfinished')"


def catch(page, recording) -> None:
    """Start a run and wait for its first finished chunk."""
    start(page, recording, steps=STEPS)
    # The cells of an earlier run may still be on show.
    page.wait_for_selector("#chunk-map .rows .cell[data-state='sampling']")
    page.wait_for_selector("#chunk-map .rows .cell[data-state='done']")


def resume(page, recording) -> None:
    """Continue the only unfinished run, to its end."""
    page.wait_for_selector(UNFINISHED)
    assert page.locator(UNFINISHED).count() == 1
    page.get_by_role("button", name=f"Continue {recording.name}").click()
    wait_for_result(page, recording)
    assert page.locator(UNFINISHED).count() == 0
    summary = page.inner_text("#player .summary")
    assert "Resumed: " in summary and "from an earlier run" in summary


@pytest.fixture
def long(tmp_path):
    """Twelve chunks' worth."""
    return write_recording(tmp_path / "long.wav", 8_000, 1, 50.0)


def test_a_stopped_run_is_continued_by_one_click_after_a_reload(visit, long):
    page = visit()
    catch(page, long)
    page.click("#stop")
    page.wait_for_selector("#player .badge:has-text('stopped early')")
    page.reload()
    resume(page, long)
    assert page.inner_text("#recording label").strip().startswith("long.wav")
    page.reload()
    page.wait_for_selector("#player .library")
    assert page.locator(UNFINISHED).count() == 0


def test_a_run_outlives_its_tab(visit, long):
    page = visit()
    catch(page, long)
    again = page.context.new_page()
    url = page.url
    page.close()
    again.goto(url)
    resume(again, long)


def test_a_run_outlives_its_server_and_what_has_expired_is_told(browser, long, tmp_path):
    port = free_port()
    page = browser.new_context().new_page()
    page.set_default_timeout(RUN_SECONDS * 1000)
    with running(tmp_path, port) as app:
        page.goto(app.url)
        page.wait_for_selector("#chunk-map [data-phase='idle']")
        catch(page, long)
        app.process.kill()
    with running(tmp_path, port) as app:
        page.goto(app.url)
        resume(page, long)
        page.locator("#recording").get_by_label("Clear").click()
        catch(page, long)
        page.click("#stop")
        page.wait_for_selector(UNFINISHED)
        for path in app.cache.glob("*/long.wav"):
            path.unlink()
        page.get_by_role("button", name="Continue long.wav").click()
        page.wait_for_selector("#chunk-map [data-phase='error']")
        assert "has expired on the server" in page.inner_text("#chunk-map .text")
        assert page.locator(UNFINISHED).count() == 0
    page.context.close()
