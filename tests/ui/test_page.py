"""Laws of the page: numbers come from the preset, errors are sentences, one endpoint is public."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest
import soundfile
from fakes import BOUNDS, FakeEngine, fake_shelf
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lily.ui.examples import FOLDER, NAMES, RECORDINGS, example
from lily.ui.handlers import Handlers
from lily.ui.page import build_page, cache_of
from lily.ui.request import NO_RECORDING
from lily.ui.sentences import SURPRISE
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.theme import CSS, theme
from lily.ui.uses import USES
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
    """The handlers of the page, taken from its Restore button."""
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
    """What the Restore button starts."""
    return handlers.run(str(recording), "small", encoder, 4, seed, "ddim", 1.5, "", False, None)


def compare(handlers: Handlers, recording, reference=None):
    """What the Restore button starts where Compare is ticked."""
    values = ("small", "on", 4, "5", "ddim", 1.5, "")
    return handlers.run(str(recording), *values, True, reference)


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
    box = named(page, "compare")
    assert box.interactive is False
    assert box.info == "There is nothing to compare. Its encoder is untrained."
    updates = handlers.change_preset("full")
    assert (updates[switch]["interactive"], updates[switch]["value"]) == (True, "on")
    assert updates[box]["interactive"] is True
    assert not handlers.check_encoder("full")[box].get("interactive")


def test_a_notice_is_shown_as_text(shelf):
    page = made(shelf, notice="The <b>Hub</b> is silent.")
    notice = next(b for b in page.blocks.values() if b.elem_id == "notice")
    assert "The &lt;b&gt;Hub&lt;/b&gt; is silent." in notice.value


def test_two_endpoints_are_public_and_name_their_parameters(page):
    public = page.get_api_info()["named_endpoints"]
    settings = ["steps", "seed", "sampler", "guidance", "cutoff"]
    known = ["context", "wall", "brightness"]
    expected = {
        "/upsample": ["audio", "preset", "encoder", *settings, *known],
        "/compare": ["audio", "preset", *settings, "reference", *known],
    }
    assert public.keys() == expected.keys()
    for name, parameters in expected.items():
        told = public[name]["parameters"]
        assert [p["parameter_name"] for p in told] == parameters
        required = [p["parameter_name"] for p in told if not p["parameter_has_default"]]
        assert required == ["audio"]
        assert all(p in public[name]["description"] for p in parameters[2:])


def test_everything_that_needs_the_engine_shares_one_queue_of_one(page):
    names = {"run", "upsample", "compare"}
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
        list(handlers.arm(None))
    assert told.value.message == NO_RECORDING


def values(handlers: Handlers, page, steps) -> list[dict]:
    """What the player is sent."""
    player = named(page, "player")
    return [step[player] for step in steps if player in step]


def test_a_result_is_sent_once_with_everything_the_player_plays(handlers, recording, page):
    (value,) = values(handlers, page, run(handlers, recording))
    assert [(s["key"], s["label"]) for s in value["sources"]] == [
        ("input", "Before"),
        ("on", "After"),
    ]
    for source in value["sources"]:
        assert soundfile.info(source["path"]).samplerate == 48_000
    assert value["cutoffs"] == [[0.0, 12.0, 4000.0]] and value["seconds"] == 12.0
    assert "lily upsample speech.wav" in value["command"]
    assert value["title"] == "speech.wav" and "Below 4.0 kHz" in value["summary"]
    json.dumps(value)


def test_a_comparison_has_three_sources_and_files_to_keep(handlers, recording, page):
    (value,) = values(handlers, page, compare(handlers, recording))
    assert [source["key"] for source in value["sources"]] == ["input", "off", "on"]
    assert [file["name"] for file in value["files"]] == ["speech.lily.diff.wav", "speech.lily.json"]
    assert dict(value["facts"])["On differs from off by"].endswith("dB of the highs")
    assert "lily compare speech.wav" in value["command"]


def test_an_unchanged_recording_is_its_own_result(handlers, full_band, page):
    (value,) = values(handlers, page, run(handlers, full_band))
    assert [source["label"] for source in value["sources"]] == ["Recording"]
    assert "full band" in value["summary"] and value["cutoffs"] == []
    assert value["files"][0]["name"] == "full.lily.wav"


def test_another_reference_is_refused_with_the_reason(handlers, recording, other):
    with pytest.raises(gr.Error, match="other.wav is not the same recording"):
        list(compare(handlers, recording, str(other)))


def test_a_new_run_leaves_the_old_result_until_it_has_one(handlers, recording, page):
    (armed,) = handlers.arm(str(recording))
    assert named(page, "player") not in armed
    assert armed[named(page, "chunk-map")]["recording"] == "speech.wav"
    assert armed[named(page, "restore")]["interactive"] is False
    assert armed[named(page, "stop")]["interactive"] is True


def test_every_example_is_there_small_and_credited():
    credits = (FOLDER / "CREDITS.md").read_text()
    assert RECORDINGS.keys() == NAMES.keys() and len(NAMES) == 4
    for recording in RECORDINGS.values():
        assert f"`{recording.name}`" in credits
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_500_000


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_finished_and_in_step(name):
    value = example(name)
    before, after = value["sources"]
    given = soundfile.info(RECORDINGS[name])
    for path in (before["path"], after["highs"]):
        info = soundfile.info(path)
        assert info.samplerate == 48_000
        assert info.frames == -(-given.frames * 48_000 // given.samplerate)
    for source in value["sources"]:
        assert Path(source["spectrum"]).is_file() and source["peaks"]
    assert value["seconds"] == info.frames / 48_000 and value["cutoffs"]
    json.dumps(value)


def test_the_page_opens_on_the_first_example(page):
    assert named(page, "player").value == example(next(iter(NAMES)))


def test_a_kind_of_recording_fills_in_its_cutoff(handlers, page):
    field = block(page, gr.Textbox, "Cutoff (Hz)")
    for use in USES:
        assert handlers.choose_use(use.name)[field] == use.cutoff
    assert handlers.choose_use("<b>")[field] == ""


def test_a_recording_is_named_and_without_one_there_is_nothing_to_restore(handlers, page):
    shown = handlers.name_recording("/cache/abc/my song.wav")
    assert shown[named(page, "recording")]["label"] == "my song.wav"
    shown = handlers.name_recording(None)
    assert "up to 1 min" in shown[named(page, "recording")]["label"]
    assert shown[named(page, "restore")]["interactive"] is False


def test_without_an_encoder_to_compare_a_reference_changes_nothing(engine, recording, other):
    shelf = EngineShelf(
        {"plain": {"inference": BOUNDS}}, lambda _: engine, note=lambda _: "Its encoder is mute."
    )
    handlers = next(fn.fn.__self__ for fn in made(shelf).fns.values() if fn.name == "arm")
    values = (str(recording), "plain", "off", 4, "5", "ddim", 1.5, "", True, str(other))
    list(handlers.run(*values))
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
    assert ended(handlers.stopped(last))[panel]["phase"] == "stopped"


def leave_after_a_chunk(handlers, recording, engine, page):
    """Begin a run and close its stream once a chunk is finished; returns the chunk map."""
    engine.pause = 0.12
    try:
        stream = run(handlers, recording)
        panel = named(page, "chunk-map")
        while not any(-1 in row["cells"] for row in next(stream)[panel].get("rows", [])):
            pass
        stream.close()
    finally:
        engine.pause = 0.0
    return panel


def test_stopping_keeps_what_was_finished_and_shows_it_once(handlers, recording, engine, page):
    panel = leave_after_a_chunk(handlers, recording, engine, page)
    shown = ended(handlers.stopped(handlers.stop(None)[panel]))
    assert shown[named(page, "player")]["badge"].startswith("stopped early")
    assert shown[panel]["phase"] == "stopped"
    assert ended(handlers.stopped(shown[panel])) == {panel: gr.skip()}


def test_what_was_stopped_never_covers_the_next_run(handlers, recording, engine, page):
    panel = leave_after_a_chunk(handlers, recording, engine, page)
    list(handlers.arm(str(recording)))
    assert ended(handlers.stopped(None)) == {panel: gr.skip()}


def test_every_update_carries_the_progress_as_a_bare_value(handlers, recording, page):
    panel = next(b for b in page.blocks.values() if b.elem_id == "chunk-map")
    for step in run(handlers, recording):
        assert step[panel].keys() >= {"phase", "rows"}


def test_a_bad_file_is_told_in_the_panel(handlers, bad_file, page):
    panel = next(b for b in page.blocks.values() if b.elem_id == "chunk-map")
    seen = []
    with pytest.raises(gr.Error, match=r"bad.wav is not audio"):
        for step in run(handlers, bad_file):
            seen.append(step)
    assert seen[-1][panel]["phase"] == "error"
    assert seen[-1][panel]["text"].startswith("bad.wav is not audio")
    enabled = [b.elem_id for b, u in seen[-1].items() if u.get("interactive") is True]
    assert enabled == ["restore"]


def test_errors_are_no_messages_over_the_page(handlers, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.wav"
    path.write_text("no audio")
    with pytest.raises(gr.Error) as told:
        list(run(handlers, path))
    assert told.value.visible is False  # Gradio would render it as HTML; the panel sets text


def test_nonsense_in_a_field_is_told(handlers, recording):
    with pytest.raises(gr.Error, match="Seed is 'x'"):
        list(run(handlers, recording, seed="x"))


def test_a_surprise_is_one_calm_line_and_a_logged_traceback(
    handlers, recording, engine, monkeypatch, caplog
):
    def broken(*_, **__):
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


def test_what_a_browser_sends_as_a_job_is_never_opened(handlers, page):
    for sent in (None, "x", {}, {"job": "../../etc/passwd"}, {"job": 3}, {"job": "a" * 22}):
        event = gr.EventData(None, sent)
        updates = []
        with pytest.raises(gr.Error, match="has expired"):
            updates.extend(handlers.arm_again(event))


def test_a_job_can_be_continued_and_given_another_take(handlers, page, recording, engine):
    (panel,) = (b for b in page.blocks.values() if b.elem_id == "chunk-map")
    updates = run(handlers, recording, seed="5")
    job = next(updates)[panel]["job"]
    updates.close()
    armed = list(handlers.arm_again(gr.EventData(None, {"job": job})))[-1]
    assert str(recording) in armed.values()
    *_, last = handlers.run_again(job)
    assert last[panel]["phase"] == "done" and last[panel]["job"] == job
    take = list(handlers.arm_again(gr.EventData(None, {"job": job, "second": 2.0})))[-1]
    assert take[handlers.job] != job
    again = gr.EventData(None, {"job": take[handlers.job], "second": 2.0})
    third = list(handlers.arm_again(again))[-1][handlers.job]
    list(handlers.run_again(third))
    (one,) = engine.asked[-1].takes  # the later take of a place replaces the earlier one
    assert one[0] == 2.0 and engine.asked[-1].chunk_folder.name.endswith(job)


@pytest.mark.parametrize("second", [None, "2", -1, float("nan"), float("inf"), [], True])
def test_a_take_is_asked_for_at_a_second(handlers, page, recording, second):
    (panel,) = (b for b in page.blocks.values() if b.elem_id == "chunk-map")
    *_, last = run(handlers, recording, seed="5")
    with pytest.raises(gr.Error, match="no chunk at"):
        list(handlers.arm_again(gr.EventData(None, {"job": last[panel]["job"], "second": second})))


def test_only_files_of_the_cache_are_restored_as_one_of_several(handlers, tmp_path):
    outside = tmp_path / "a.wav"
    outside.write_bytes(b"")
    values = ("small", "on", 4, "", "ddim", 1.5, "", False, None)
    for path in (None, 3, "", "a\0b", "/etc/passwd", str(outside), "http://127.0.0.1/a.wav"):
        event = gr.EventData(None, {"path": path, "name": "a.wav"})
        with pytest.raises(gr.Error, match="has expired"):
            list(handlers.arm_file(event, None, None, *values))


def test_a_context_is_left_out_where_a_model_takes_none(engine):
    def config(profile, memory):
        params = {"unet_config": {"params": {"global_encoder": {"profile": profile}}}}
        return {"inference": BOUNDS | {"pair_memory": memory}, "model": {"params": params}}

    configs = {"all": config(True, True), "old": config(True, False), "none": config(False, True)}
    page = made(EngineShelf(configs, lambda _: engine))
    handlers = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "arm")
    context = next(b for b in page.blocks.values() if isinstance(b, gr.File) and b.visible)
    offered = {name: handlers.change_preset(name) for name in configs}
    assert [one[context]["visible"] for one in offered.values()] == [True, False, False]
    wall = block(page, gr.Textbox, "Upper end of the highs (Hz)")
    assert "At most 24000" in wall.info and not any(wall in one for one in offered.values())


def test_what_is_known_of_the_original_reaches_the_engine(handlers, engine, recording):
    values = ("small", "on", 4, "", "ddim", 1.5, "", False, None)
    list(handlers.run(str(recording), *values, [str(recording)], "16000", 2))
    asked = engine.asked[-1]
    assert asked.context_files == (recording,)
    assert (asked.wall_hz, asked.brightness_db) == (16_000.0, 2.0)
