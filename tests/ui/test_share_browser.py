"""A result's link, where the operator allows it: another visitor hears it, and it expires."""

from __future__ import annotations

import shutil

from browser import NEEDED, PLAYER, RUN_SECONDS, start, wait_for_result
from fakes import write_recording
from live import running

pytestmark = NEEDED


def test_a_link_shows_the_result_to_another_visitor_until_it_expires(browser, tmp_path):
    recording = write_recording(tmp_path / "song.wav", 8_000, 1, 7.0)
    with running(tmp_path, LILY_SHARE="1") as app:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        context.set_default_timeout(RUN_SECONDS * 1000)
        page = context.new_page()
        page.goto(f"{app.url}?__theme=dark")
        page.wait_for_selector("#chunk-map [data-phase='idle']")
        page.wait_for_function(f"{PLAYER}?.frames > 0")
        assert not page.locator("#player .share").is_visible()  # an example has no link
        start(page, recording)
        wait_for_result(page, recording)
        page.click("#player .share")
        page.wait_for_selector("#player .saving:has-text('Link copied')")
        link = page.evaluate("navigator.clipboard.readText()")
        other = browser.new_page()
        other.set_default_timeout(RUN_SECONDS * 1000)
        other.goto(link)
        other.wait_for_selector("#player .title:text-is('song.wav')")
        other.wait_for_function(f"{PLAYER}?.frames === 7 * 48000")
        assert other.locator("#player .download").is_enabled()
        assert not other.locator("#player .takes").is_visible()  # its owner's to change
        for folder in app.cache.glob("lily-*"):
            shutil.rmtree(folder)
        other.goto(link)
        other.wait_for_selector("#chunk-map .text:has-text('link has expired')")
        other.wait_for_selector("#player .badge:text-is('Example')")
        other.close()
        context.close()
