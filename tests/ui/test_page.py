"""Laws of the page: numbers come from the preset, errors are sentences, one endpoint is public."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
import soundfile
from fakes import BOUNDS, FakeEngine, fake_shelf
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lily.ui.examples import EXAMPLES, FOLDER
from lily.ui.handlers import NO_RECORDING, SURPRISE, Handlers
from lily.ui.page import build_page, cache_of
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.theme import CSS, theme
from lily.ui.widget import WIDGETS, widget


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
        yield made(shelf, Settings(max_seconds=60.0))


def made(shelf: EngineShelf, settings: Settings | None = None, notice: str = "") -> gr.Blocks:
    """The page over a shelf."""
    settings = settings or Settings()
    return build_page(shelf, settings, cache_of(settings), notice)


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


def compare(handlers: Handlers, recording, reference=None):
    """What the Compare button starts."""
    return handlers.run_comparison(
        str(recording), "small", "on", 4, "5", "ddim", 1.5, "", reference
    )


def named(page: gr.Blocks, elem_id: str):
    """The component with this id."""
    return next(b for b in page.blocks.values() if b.elem_id == elem_id)


def test_defaults_minima_and_maxima_are_the_presets(page, shelf):
    bounds = shelf.bounds("small")
    steps = block(page, gr.Slider, "Steps")
    guidance = block(page, gr.Slider, "Guidance")
    assert (steps.minimum, steps.maximum, steps.value) == (1, 40, bounds.steps.default)
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
    page = made(shelf)
    switch = block(page, gr.Radio, "Encoder")
    assert (switch.interactive, switch.value, switch.info) == (False, "off", note["plain"])
    handlers = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "arm")
    assert handlers.check_encoder("plain")[switch]["interactive"] is False
    button, told = named(page, "compare"), named(page, "compare-note")
    assert button.interactive is False and told.visible
    assert told.value == "There is nothing to compare. Its encoder is untrained."
    for ended in (handlers.free("plain"), handlers.stop(None, "plain")):
        assert ended[button]["interactive"] is False  # a run of it leaves it greyed
    assert handlers.free("full")[button]["interactive"] is True
    updates = handlers.change_preset("full")
    assert (updates[switch]["interactive"], updates[switch]["value"]) == (True, "on")
    assert updates[button]["interactive"] is True and updates[told]["visible"] is False


def test_a_notice_is_shown_as_text(shelf):
    page = made(shelf, notice="The <b>Hub</b> is silent.")
    notice = next(b for b in page.blocks.values() if b.elem_id == "notice")
    assert "The &lt;b&gt;Hub&lt;/b&gt; is silent." in notice.value


def test_two_endpoints_are_public_and_name_their_parameters(page):
    public = page.get_api_info()["named_endpoints"]
    settings = ["steps", "seed", "sampler", "guidance", "cutoff"]
    expected = {
        "/upsample": ["audio", "preset", "encoder", *settings],
        "/compare": ["audio", "preset", *settings, "reference"],
    }
    assert public.keys() == expected.keys()
    for name, parameters in expected.items():
        told = public[name]["parameters"]
        assert [p["parameter_name"] for p in told] == parameters
        required = [p["parameter_name"] for p in told if not p["parameter_has_default"]]
        assert required == ["audio"]
        assert all(p in public[name]["description"] for p in parameters[2:])


def test_everything_that_needs_the_engine_shares_one_queue_of_one(page):
    names = {"run", "run_comparison", "upsample", "compare"}
    users = [fn for fn in page.fns.values() if fn.name in names]
    assert {fn.name for fn in users} == names
    assert {(fn.concurrency_id, fn.concurrency_limit) for fn in users} == {("engine", 1)}


def test_the_page_sends_nothing_and_names_no_other_host(page):
    assert page.analytics_enabled is False
    assert "http" not in CSS
    assert not theme()._stylesheets
    for path in WIDGETS.iterdir():
        assert "http" not in path.read_text(), path.name


def test_widgets_put_no_value_into_a_template():
    for name in {path.stem for path in WIDGETS.glob("*.html")}:
        part = widget(name, {})
        for template in (part.html_template, part.css_template):
            assert "${" not in template and "{{" not in template and "`" not in template


def test_run_without_a_recording_says_what_to_do(handlers):
    with pytest.raises(gr.Error) as told:
        list(handlers.arm(None, "small"))
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


def test_results_are_sent_once(handlers, recording):
    sent = [
        block
        for step in run(handlers, recording)
        for block, update in step.items()
        if isinstance(block, gr.DownloadButton) and update["value"]
    ]
    assert len(sent) == 1


def test_a_comparison_brings_the_player_everything_it_plays(handlers, recording, page):
    updates = [step for step in compare(handlers, recording) if named(page, "player") in step]
    (value,) = [step[named(page, "player")] for step in updates]
    assert [source["key"] for source in value["sources"]] == ["input", "off", "on"]
    for path in [source["path"] for source in value["sources"]] + [value["low"]]:
        assert soundfile.info(path).samplerate == 48_000
    assert len(value["chunks"]) == 3 and value["seconds"] == 12.0
    json.dumps(value)
    (view,) = [step for step in updates]
    assert view[named(page, "comparison")]["visible"] is True
    assert "lily compare speech.wav" in view[named(page, "command")]["value"]


def test_another_reference_is_refused_with_the_reason(handlers, recording, other):
    with pytest.raises(gr.Error, match="other.wav is not the same recording"):
        list(compare(handlers, recording, str(other)))


def test_a_new_run_takes_the_old_results_away(handlers, recording, page):
    (armed,) = handlers.arm(str(recording), "small")
    assert armed[named(page, "comparison")]["visible"] is False
    assert armed[named(page, "take")]["visible"] is False
    assert armed[named(page, "player")] == {"sources": []}


def test_every_example_is_there_small_and_credited():
    credits = (FOLDER / "CREDITS.md").read_text()
    assert len(EXAMPLES) == 3
    for example in EXAMPLES.values():
        assert example.stat().st_size < 1_000_000
        assert f"`{example.name}`" in credits


def test_an_example_is_upsampled_where_there_is_nothing_to_compare(engine):
    shelf = EngineShelf(
        {"plain": {"inference": BOUNDS}}, lambda _: engine, note=lambda _: "Its encoder is mute."
    )
    page = made(shelf)
    handlers = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "arm")
    example = EXAMPLES["Try changing band"]
    chosen = handlers.choose(example, "plain")
    assert chosen[named(page, "tasks")].selected == "upsample"
    assert chosen[block(page, gr.Textbox, "Cutoff (Hz)")] == ""
    values = (str(EXAMPLES["Try speech"]), "plain", "off", 4, "5", "ddim", 1.5, "", None)
    last = [step for step in handlers.run_comparison(*values) if named(page, "command") in step][-1]
    assert "lily upsample speech.flac" in last[named(page, "command")]["value"]
    assert engine.asked[-1].encoder is False


def ended(coroutine):
    """Its result, by a loop in a thread of its own: the browser's tests have one in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_a_run_that_was_stopped_before_a_chunk_is_said_to_be_stopped(handlers, recording, page):
    stream = run(handlers, recording)
    panel = named(page, "chunk-map")
    last = next(stream)[panel]
    stream.close()
    assert ended(handlers.stopped(last, "small"))[panel]["phase"] == "stopped"


def test_stopping_keeps_what_was_finished_and_shows_it_once(handlers, recording, engine, page):
    engine.pause = 0.12
    try:
        stream = run(handlers, recording)
        panel = named(page, "chunk-map")
        while not any(-1 in row["cells"] for row in next(stream)[panel].get("rows", [])):
            pass
        stream.close()
    finally:
        engine.pause = 0.0
    shown = ended(handlers.stopped(handlers.stop(None, "small")[panel], "small"))
    assert shown[named(page, "take")]["visible"] is True
    assert shown[panel]["phase"] == "stopped"
    assert ended(handlers.stopped(shown[panel], "small")) == {panel: gr.skip()}


def test_what_was_stopped_never_covers_the_next_run(handlers, recording, engine, page):
    engine.pause = 0.12
    try:
        stream = run(handlers, recording)
        panel = named(page, "chunk-map")
        while not any(-1 in row["cells"] for row in next(stream)[panel].get("rows", [])):
            pass
        stream.close()
    finally:
        engine.pause = 0.0
    list(handlers.arm(str(recording), "small"))
    assert ended(handlers.stopped(None, "small")) == {panel: gr.skip()}


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
    enabled = [b.elem_id for b, u in seen[-1].items() if u.get("interactive") is True]
    assert enabled[:2] == ["run", "compare"] and "stop" not in enabled


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
    assert handlers.stop(sent, "small")[panel]["phase"] == "stopped"
    json.dumps(handlers.stop(sent, "small")[panel])


def test_a_program_gets_files_and_figures(client, recording):
    files, told = client.predict(
        handle_file(str(recording)), encoder="off", seed=3, api_name="/upsample"
    )
    assert [soundfile.info(path).samplerate for path in files] == [48_000]
    assert [(r["encoder"], r["seed"]) for r in told["results"]] == [("off", 3)]
    assert "python -m lily upsample speech.wav" in told["command"]


def test_a_program_compares(client, recording):
    files, told = client.predict(handle_file(str(recording)), seed=3, api_name="/compare")
    assert [soundfile.info(path).samplerate for path in files] == [48_000] * 3
    assert told["seed"] == 3 and len(told["chunks"]) == 3
    assert set(told["files"]) == {"off", "on", "difference"}
    assert "python -m lily compare speech.wav" in told["command"]


def test_a_program_is_told_what_is_wrong_and_may_try_again(client, recording, bad_file):
    with pytest.raises(AppError, match="bad.wav is not audio"):
        client.predict(handle_file(str(bad_file)), api_name="/upsample")
    files, _ = client.predict(handle_file(str(recording)), api_name="/upsample")
    assert len(files) == 1
