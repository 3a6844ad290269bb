"""Laws of the page: numbers come from the preset, errors are sentences, one endpoint is public."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import gradio as gr
import pytest
import soundfile
from fakes import BOUNDS, FakeEngine, fake_shelf
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lily.ui.handlers import NO_RECORDING, SURPRISE, Handlers
from lily.ui.page import build_page
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.theme import CSS, theme
from lily.ui.widget import widget


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    """One fake engine for the page of this file."""
    return FakeEngine()


@pytest.fixture(scope="module")
def shelf(engine) -> EngineShelf:
    """The two presets of the fake engine."""
    return fake_shelf(engine)


@pytest.fixture(scope="module")
def page(shelf, tmp_path_factory) -> Iterator[gr.Blocks]:
    """The page over the fake engine, its cache in a folder of the tests; built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        yield build_page(shelf, Settings(max_seconds=60.0))


@pytest.fixture(scope="module")
def handlers(page) -> Handlers:
    """The handlers of the page, taken from its Run button."""
    return next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "arm")


@pytest.fixture(scope="module")
def client(page):
    """A program that talks to the page."""
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, theme=theme(), css=CSS)
    yield Client(url, verbose=False)
    page.close()


def block(page: gr.Blocks, kind: type, label: str):
    """The first component of a kind with this label."""
    return next(
        b for b in page.blocks.values() if isinstance(b, kind) and getattr(b, "label", "") == label
    )


def run(handlers: Handlers, recording, seed="", encoder="on"):
    """What the Run button starts."""
    return handlers.run(str(recording), "small", encoder, 4, seed, "ddim", 1.5, "")


def test_defaults_minima_and_maxima_are_the_presets(page, shelf):
    bounds = shelf.bounds("small")
    steps = block(page, gr.Slider, "Steps")
    guidance = block(page, gr.Slider, "Guidance")
    assert (steps.minimum, steps.maximum, steps.value) == (1, 40, bounds.steps["default"])
    assert (guidance.minimum, guidance.maximum, guidance.value) == (1.0, 5.0, 1.5)
    assert block(page, gr.Dropdown, "Sampler").value == bounds.sampler


def test_another_preset_brings_its_own_numbers(handlers):
    updates = {block.label: update for block, update in handlers.change_preset("large").items()}
    assert (updates["Steps"]["maximum"], updates["Steps"]["value"]) == (200, 50)
    assert updates["Sampler"]["value"] == "ddim"


def test_a_model_without_a_trained_encoder_greys_the_switch_with_the_reason(engine):
    configs = {"plain": {"inference": BOUNDS}, "full": {"inference": BOUNDS}}
    note = {"plain": "Its encoder is untrained."}
    shelf = EngineShelf(
        configs, lambda _: engine, note=lambda c: note["plain"] if c is configs["plain"] else ""
    )
    page = build_page(shelf, Settings())
    switch = block(page, gr.Radio, "Encoder")
    assert (switch.interactive, switch.value, switch.info) == (False, "off", note["plain"])
    handlers = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "arm")
    assert handlers.check_encoder("plain")[switch]["interactive"] is False
    updates = handlers.change_preset("full")
    assert (updates[switch]["interactive"], updates[switch]["value"]) == (True, "on")


def test_a_notice_is_shown_as_text(shelf):
    page = build_page(shelf, Settings(), "The <b>Hub</b> is silent.")
    notice = next(b for b in page.blocks.values() if b.elem_id == "notice")
    assert "The &lt;b&gt;Hub&lt;/b&gt; is silent." in notice.value


def test_only_upsample_is_public(page):
    named = page.get_api_info()["named_endpoints"]
    assert list(named) == ["/upsample"]
    names = [p["parameter_name"] for p in named["/upsample"]["parameters"]]
    assert names == [
        "audio",
        "preset",
        "encoder",
        "steps",
        "seed",
        "sampler",
        "guidance",
        "cutoff",
    ]
    required = [p for p in named["/upsample"]["parameters"] if not p["parameter_has_default"]]
    assert [p["parameter_name"] for p in required] == ["audio"]


def test_everything_that_needs_the_engine_shares_one_queue_of_one(page):
    users = [fn for fn in page.fns.values() if fn.name in {"run", "upsample"}]
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in users} == {("engine", 1)}
    assert len(users) == 2


def test_the_page_sends_nothing_and_names_no_other_host(page):
    assert page.analytics_enabled is False
    assert "http" not in CSS
    assert not theme()._stylesheets
    for name in ("chunk_map", "facts"):
        part = widget(name, {})
        assert "http" not in f"{part.html_template}{part.css_template}{part.js_on_load}"


def test_widgets_put_no_value_into_a_template():
    for name in ("chunk_map", "facts"):
        part = widget(name, {})
        for template in (part.html_template, part.css_template):
            assert "${" not in template and "{{" not in template and "`" not in template


def test_run_without_a_recording_says_what_to_do(handlers):
    with pytest.raises(gr.Error) as told:
        list(handlers.arm(None))
    assert told.value.message == NO_RECORDING


def test_a_run_shows_the_file_by_its_path(handlers, recording):
    updates = list(run(handlers, recording))
    players = [
        update["value"]
        for step in updates
        for block, update in step.items()
        if isinstance(block, gr.Audio) and isinstance(update, dict)
    ]
    assert players[0].endswith("speech.wav")
    assert soundfile.info(players[0]).subtype == "PCM_24"


def test_a_player_is_sent_its_file_once(handlers, recording):
    sent = [
        block
        for step in run(handlers, recording, encoder="both")
        for block, update in step.items()
        if isinstance(block, gr.DownloadButton) and update["value"]
    ]
    assert len(sent) == len(set(sent)) == 2


def test_every_update_carries_the_progress_as_a_bare_value(handlers, recording, page):
    panel = next(b for b in page.blocks.values() if b.elem_id == "chunk-map")
    for step in run(handlers, recording):
        assert step[panel].keys() >= {"phase", "rows"}


def test_a_bad_file_is_told_in_the_panel_and_as_a_message(handlers, bad_file, page):
    panel = next(b for b in page.blocks.values() if b.elem_id == "chunk-map")
    seen = []
    with pytest.raises(gr.Error, match=r"bad.wav is not audio"):
        for step in run(handlers, bad_file):
            seen.append(step)
    assert seen[-1][panel]["phase"] == "error"
    assert seen[-1][panel]["text"].startswith("bad.wav is not audio")
    assert [b.value for b, u in seen[-1].items() if u.get("interactive") is True] == ["Run"]


def test_a_file_name_cannot_become_markup(handlers, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.wav"
    path.write_text("no audio")
    with pytest.raises(gr.Error) as told:
        list(run(handlers, path))
    assert "<img" not in told.value.message


def test_nonsense_in_a_field_is_told(handlers, recording):
    with pytest.raises(gr.Error, match="Seed is 'x'"):
        list(run(handlers, recording, seed="x"))


def test_a_surprise_is_one_calm_line_and_a_logged_traceback(
    handlers, recording, engine, monkeypatch, caplog
):
    def broken(*_):
        raise ZeroDivisionError("secret detail")
        yield

    monkeypatch.setattr(engine, "stream", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as told:
        list(run(handlers, recording))
    assert told.value.message == SURPRISE
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("sent", [None, "x", 3, {"phase": "filling"}, {"rows": "<b>"}])
def test_stop_survives_whatever_a_client_sends(handlers, sent, page):
    panel = next(b for b in page.blocks.values() if b.elem_id == "chunk-map")
    assert handlers.stop(sent)[panel]["phase"] == "stopped"
    json.dumps(handlers.stop(sent)[panel])


def test_a_program_gets_files_and_figures(client, recording):
    files, told = client.predict(
        handle_file(str(recording)), encoder="both", seed=3, api_name="/upsample"
    )
    assert [soundfile.info(path).samplerate for path in files] == [48_000, 48_000]
    assert [r["encoder"] for r in told["results"]] == ["off", "on"]
    assert {r["seed"] for r in told["results"]} == {3}
    assert "python -m lily upsample speech.wav" in told["command"]


def test_a_program_is_told_what_is_wrong_and_may_try_again(client, recording, bad_file):
    with pytest.raises(AppError, match="bad.wav is not audio"):
        client.predict(handle_file(str(bad_file)), api_name="/upsample")
    files, _ = client.predict(handle_file(str(recording)), api_name="/upsample")
    assert len(files) == 1
