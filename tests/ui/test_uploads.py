"""Laws of uploads: whatever input of the page is sent an address, nothing is fetched from it."""

from __future__ import annotations

import gradio as gr
import pytest
from coroutines import finish
from gradio import processing_utils

from lily.ui.page import build_page, cache_of
from lily.ui.settings import Settings
from lily.ui.uploads import NOTHING_FETCHED

ADDRESSES = ("http://127.0.0.1:1/a.wav", "https://example.org/a.wav", "HTTP://169.254.169.254/x")


def sent(address: str) -> dict:
    """What a client sends for a file that lies elsewhere."""
    return {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def page(shelf, tmp_path, monkeypatch):
    """The page over the fake engine."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    settings = Settings()
    return build_page(shelf, settings, cache_of(settings))


@pytest.mark.slow
def test_no_input_of_any_event_fetches_an_address(page, monkeypatch):
    fetched, refused = [], 0

    async def fetch(url, *_, **__):
        fetched.append(url)
        raise OSError("no network")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetch)
    for function in page.fns.values():
        for index, _ in enumerate(function.inputs):
            for address in ADDRESSES:
                inputs = [None] * len(function.inputs)
                inputs[index] = [sent(address)] if index % 2 else sent(address)
                try:
                    finish(page.preprocess_data(function, inputs, None))
                except gr.Error as error:
                    refused += error.message == NOTHING_FETCHED
                except Exception:  # a slider is sent no file: its own error will do
                    continue
    assert not fetched
    assert refused > 20


def test_every_component_is_guarded(page):
    for block in page.blocks.values():
        with pytest.raises(gr.Error, match="fetches nothing"):
            finish(block.async_move_resource_to_block_cache(ADDRESSES[0]))
