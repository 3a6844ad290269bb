"""Laws of a run: one engine at a time, one seed for both, and nothing left behind."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import soundfile
from fakes import BOUNDS, FakeEngine, write_recording
from fuzz import tiny_engine

from lily.checkpoints.events import Downloading
from lily.errors import ConfigError, HubUnreachable, InputError, Stopped, WeightsError
from lily.inference.options import UpsampleOptions
from lily.ui.cache import Cache
from lily.ui.estimate import Pace
from lily.ui.request import Request
from lily.ui.run import Run, Snapshot
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf

PATIENCE = 60.0  # seconds until a run that was closed must have ended


@pytest.fixture
def start(shelf, tmp_path):
    """Start a run whose files go to a cache folder of the test."""

    def make(recording, listened=False, limits=None, clock=time.monotonic, **choices):
        request = Request(recording, choices.pop("preset", "small"), **choices)
        settings = Settings(**{"max_seconds": 60.0} | (limits or {}))
        cache = cache_in(tmp_path / "cache")
        return Run(request, shelf, cache, settings, listened=listened, clock=clock)

    return make


def cache_in(folder) -> Cache:
    """A cache with the limits of the page."""
    return Cache(folder, Settings.keep_seconds, Settings.cache_mb * 1e6)


def free(shelf: EngineShelf) -> bool:
    """True if nobody holds the engine."""
    taken = shelf.acquire(0)
    if taken:
        shelf.release()
    return taken


def test_a_run_ends_with_one_readable_file(start, recording):
    last = list(start(recording, seed=5).snapshots())[-1]
    (take,) = last.takes
    assert take.result.output.name == "speech.wav"
    assert soundfile.info(take.result.output).frames == 12 * 48_000
    assert last.progress["phase"] == "done"
    assert "--seed 5" in last.command


def test_closing_the_shelf_ends_the_run_under_way_and_refuses_the_next(start, recording, shelf):
    run = start(recording, seed=5)
    snapshots = run.snapshots()
    while next(snapshots).progress["phase"] != "filling":
        pass
    assert not shelf.close(0.0)  # the run has the engine
    with pytest.raises(Stopped, match="server is being stopped"):
        list(snapshots)
    assert run.ended.is_set() and not list(run._cache.folder.glob("lily-*/*"))
    with pytest.raises(Stopped, match="server is being stopped"):
        next(start(recording).snapshots())
    assert shelf.close(1.0)


def test_a_comparison_is_one_run_with_two_takes_and_one_report(start, recording, engine):
    last = list(start(recording, encoder="both", listened=True).snapshots())[-1]
    assert len(engine.asked) == 1
    assert [take.label for take in last.takes] == ["encoder off", "encoder on"]
    assert [take.result.output.name for take in last.takes] == ["speech.off.wav", "speech.on.wav"]
    assert last.comparison.result.off is last.takes[0].result
    assert len(last.comparison.chunk_db) == len(last.comparison.result.chunks) == 3
    assert "lily compare speech.wav" in last.command


def test_a_full_band_recording_has_nothing_to_compare(start, full_band):
    with pytest.raises(InputError, match="nothing to compare"):
        list(start(full_band, encoder="both").snapshots())


def test_a_full_band_recording_is_shown_unchanged(start, full_band):
    last = list(start(full_band).snapshots())[-1]
    assert "full band" in last.progress["text"]
    assert last.takes[0].label == "unchanged"


def test_a_reference_unlike_the_recording_is_refused_before_the_engine_runs(
    start, recording, other, engine
):
    with pytest.raises(InputError, match="other.wav is not the same recording"):
        list(start(recording, encoder="both", reference=other).snapshots())
    assert engine.asked == []


@pytest.mark.parametrize(("encoder", "keys"), [("on", ["input", "on"]), ("off", ["input", "off"])])
def test_what_is_heard_is_in_step_and_drawn(start, recording, encoder, keys):
    heard = list(start(recording, encoder=encoder, listened=True).snapshots())[-1].heard
    assert list(heard.files) == keys and list(heard.takes) == keys[1:]
    for key, path in heard.files.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.frames) == (48_000, 12 * 48_000)
        assert heard.overviews[key].spectrum.stat().st_size > 1_000


def test_of_an_unchanged_recording_there_is_nothing_but_itself(start, full_band):
    heard = list(start(full_band, listened=True).snapshots())[-1].heard
    assert list(heard.files) == ["input"] and not heard.takes


@pytest.mark.parametrize("encoder", ["on", "both"])
def test_a_stopped_run_frees_the_engine_and_keeps_its_finished_chunks(
    start, recording, engine, shelf, encoder
):
    run = start(recording, encoder=encoder, listened=True)
    engine.pause = 0.12  # every step is shown
    snapshots = run.snapshots()
    for snapshot in snapshots:
        if snapshot.progress["rows"] and all(-1 in r["cells"] for r in snapshot.progress["rows"]):
            break
    snapshots.close()
    assert run.ended.wait(PATIENCE) and engine.closed == 1 and free(shelf)
    last = run.rest()
    assert last.progress["phase"] == "stopped" and "Stopped early" in last.progress["text"]
    assert last.progress["running"] is False
    for take in last.takes:
        assert 0 < soundfile.info(take.result.output).frames < 12 * 48_000


def test_stopping_closes_the_engine_frees_it_and_leaves_nothing(start, recording, engine, shelf):
    run = start(recording)
    snapshots = run.snapshots()
    while next(snapshots).progress["phase"] != "filling":
        pass
    assert not free(shelf)
    snapshots.close()
    assert run.ended.wait(PATIENCE) and engine.closed == 1
    assert free(shelf)


def test_a_stopped_or_failed_run_leaves_no_folder(start, recording, tmp_path, bad_file):
    run = start(recording)
    snapshots = run.snapshots()
    next(snapshots)
    next(snapshots)
    snapshots.close()
    assert run.ended.wait(PATIENCE)
    with pytest.raises(InputError, match="not audio"):
        list(start(bad_file).snapshots())
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_second_run_waits_for_the_first(start, recording):
    leaving = start(recording)
    first, second = leaving.snapshots(), start(recording).snapshots()
    next(first)
    assert next(second).progress["phase"] == "waiting"
    first.close()
    assert leaving.ended.wait(PATIENCE)
    assert next(second).progress["phase"] != "waiting"
    second.close()


def test_a_run_that_is_stopped_while_it_waits_has_ended(start, recording):
    first, waiting = start(recording).snapshots(), start(recording)
    next(first)
    snapshots = waiting.snapshots()
    next(snapshots)
    snapshots.close()
    assert waiting.ended.wait(PATIENCE)
    first.close()


def test_closing_waits_for_nothing_so_that_no_visitor_does(recording, engine, tmp_path):
    begun, release = threading.Event(), threading.Event()

    def silent(config, tell):
        begun.set()
        release.wait(PATIENCE)  # as long as it takes to hash gigabytes
        return config

    shelf = EngineShelf({"small": {"inference": BOUNDS}}, lambda _config: engine, ready=silent)
    run = Run(Request(recording, "small"), shelf, cache_in(tmp_path), Settings())
    snapshots = run.snapshots()
    while not begun.is_set():
        next(snapshots)
    snapshots.close()
    assert not run.ended.is_set() and not free(shelf)  # nobody else runs meanwhile
    release.set()
    assert run.ended.wait(PATIENCE) and free(shelf)


def test_too_long_a_recording_is_refused_before_it_is_filled(start, recording, engine, shelf):
    with pytest.raises(InputError, match=r"speech.wav is longer than 0.1 min, the limit"):
        list(start(recording, limits={"max_seconds": 6.0}).snapshots())
    assert engine.asked == [] and free(shelf)


def test_what_does_not_say_its_length_is_refused_by_the_engine(start, recording, engine):
    list(start(recording, limits={"max_seconds": 33.0}).snapshots())
    assert engine.asked[0].longest_seconds == 33.0


@pytest.mark.parametrize("encoder", ["on", "both"])
def test_at_the_time_limit_a_run_ends_and_keeps_what_is_finished(start, recording, engine, encoder):
    runs = []

    def clock() -> float:  # the limit passes as the first chunks are done
        rows = runs[0].progress._rows if runs else []
        return 9.0 if rows and all(-1 in row.cells for row in rows) else 0.0

    runs += [start(recording, encoder=encoder, limits={"max_run_seconds": 8.0}, clock=clock)]
    last = list(runs[0].snapshots())[-1]
    assert "Runs are limited to 8.0 s here. Stopped early" in last.progress["text"]
    for take in last.takes:
        assert 0 < soundfile.info(take.result.output).frames < 12 * 48_000


def test_a_run_that_finishes_nothing_in_its_time_says_so(start, recording, engine, shelf, tmp_path):
    engine.pause = 0.1
    with pytest.raises(InputError, match="Nothing was finished in 0.1 s"):
        list(start(recording, limits={"max_run_seconds": 0.05}).snapshots())
    assert free(shelf) and list((tmp_path / "cache").iterdir()) == []


def test_expired_folders_are_removed_and_the_others_kept(start, recording, tmp_path):
    cache = tmp_path / "cache"
    expired, used, empty = (cache / f"lily-{name}" for name in ("expired", "used", "empty"))
    for folder in (expired, used, empty):
        folder.mkdir(parents=True)
    for folder in (expired, used):
        (folder / "a.wav").write_bytes(b"x")
    for path in (expired / "a.wav", expired, used, empty):
        os.utime(path, (0, 0))
    list(start(recording).snapshots())
    assert not expired.exists() and not empty.exists()
    assert used.exists()


def test_one_model_in_memory_and_loaded_once(recording, start):
    alive, made = set(), []

    class Loud:
        def __init__(self, config):
            assert not alive, "two models in memory"
            alive.add(id(self))
            made.append(config["name"])

        def __del__(self):
            alive.clear()

    shelf = EngineShelf({"small": {"name": "small"}, "large": {"name": "large"}}, Loud)
    for preset in ("small", "small", "large", "small"):
        assert shelf.acquire(0)
        list(shelf.load(preset))
        shelf.release()
    assert made == ["small", "large", "small"]


def test_a_shelf_with_nothing_on_it_says_so():
    with pytest.raises(ConfigError, match="No preset has its weights"):
        EngineShelf({}, lambda _config: None)


def test_an_unknown_preset_names_the_known_ones(start, recording, shelf):
    with pytest.raises(InputError, match="small, large"):
        list(start(recording, preset="huge").snapshots())
    assert free(shelf)


def loading(text: str, fail: Exception | None = None):
    """What makes a preset ready: it tells of a download, then fails or not."""

    def ready(config, tell):
        for done in (0, 500_000, 1_000_000):
            tell(Downloading(text, done, 1_000_000))
        if fail and config["name"] == "large":
            raise fail
        return config

    return ready


def two(engine: FakeEngine, fail: Exception | None, spare: str | None = None) -> EngineShelf:
    """Two presets, the second of which cannot be had."""
    configs = {name: {"name": name, "inference": BOUNDS} for name in ("small", "large")}
    ready = loading("model.safetensors", fail)
    return EngineShelf(configs, lambda _config: engine, ready=ready, spare=spare)


def run_on(shelf: EngineShelf, recording, cache, preset="small") -> list[Snapshot]:
    request = Request(recording, preset)
    return list(Run(request, shelf, cache_in(cache), Settings(), listened=False).snapshots())


def test_a_download_is_shown_with_its_size_and_share(engine, recording, tmp_path):
    seen = [s.progress for s in run_on(two(engine, None), recording, tmp_path)]
    shown = [(p["text"], p["fraction"]) for p in seen if p["text"].startswith("Downloading")]
    assert shown[0] == ("Downloading model.safetensors: 0.0 of 1.0 MB", 0.0)
    assert shown[-1] == ("Downloading model.safetensors: 1.0 of 1.0 MB", 1.0)
    assert seen[-1]["phase"] == "done"


def test_a_wrong_model_costs_one_sentence_and_the_previous_goes_on(engine, recording, tmp_path):
    shelf = two(engine, WeightsError("model.safetensors: 3 missing tensors, first a, b, c."))
    run_on(shelf, recording, tmp_path)
    with pytest.raises(WeightsError, match="3 missing"):
        run_on(shelf, recording, tmp_path, "large")
    assert free(shelf) and shelf.ready("small")
    assert run_on(shelf, recording, tmp_path)[-1].progress["phase"] == "done"


def test_where_the_hub_is_silent_the_bundled_model_runs_and_says_so(engine, recording, tmp_path):
    shelf = two(engine, HubUnreachable("The Hub does not answer."), spare="small")
    last = run_on(shelf, recording, tmp_path, "large")[-1]
    assert "does not answer. small, the bundled model" in last.takes[0].result.message
    assert last.progress["text"] == last.takes[0].result.message
    assert "--preset small" in last.command  # what really ran
    with pytest.raises(HubUnreachable):
        run_on(two(engine, HubUnreachable("Silence.")), recording, tmp_path, "large")


def test_what_the_spare_model_took_is_remembered_as_the_spare_model_s(engine, recording, tmp_path):
    engine.pause = 0.01
    shelf = two(engine, HubUnreachable("The Hub does not answer."), spare="small")
    pace = Pace()
    request = Request(recording, "large")
    list(Run(request, shelf, cache_in(tmp_path), Settings(), pace=pace).snapshots())
    assert pace.rate("large", "filling", 1.0) == 1.0 != pace.rate("small", "filling", 1.0)
    assert pace.rate("small", "loading", 1.0) == 1.0  # most of it was the other model's download


def test_stopping_a_download_ends_it_before_the_next_visitor(engine, recording, tmp_path):
    ended = threading.Event()

    def endless(config, tell):
        try:
            while True:
                tell(Downloading("model.safetensors", 1, None))
                time.sleep(0.01)
        finally:
            ended.set()

    shelf = EngineShelf({"small": {"inference": BOUNDS}}, lambda _config: engine, ready=endless)
    run = Run(Request(recording, "small"), shelf, cache_in(tmp_path), Settings())
    snapshots = run.snapshots()
    while "Downloading" not in next(snapshots).progress["text"]:
        pass
    snapshots.close()
    assert run.ended.wait(PATIENCE) and ended.is_set() and free(shelf)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, None])
def test_a_run_that_was_stopped_or_lost_is_continued_by_the_same_request(tmp_path, seed):
    """The real engine, with the tests' smallest model and four seconds of a recording."""
    engine = tiny_engine(tmp_path / "model")
    shelf = EngineShelf({"small": engine.config}, lambda _config: engine)
    cache = cache_in(tmp_path / "cache")

    def begun(steps: int = 2) -> Run:
        # Every visitor has an upload of their own.
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        recording = write_recording(folder / "speech.wav", 8_000, 1, 4.0)
        request = Request(recording, "small", steps=steps, seed=seed)
        ticks = itertools.count(0, 0.2)  # every event is shown, however fast the machine
        clock = partial(next, ticks)
        return Run(request, shelf, cache, Settings(), listened=False, clock=clock)

    run = begun()
    lost = run.snapshots()
    while not chunks_in(cache):
        next(lost)
    lost.close()  # the visitor has left, or pressed Stop
    assert run.ended.wait(PATIENCE)
    if run.made:
        assert "Run it again to continue" in run.made.message
    (other,) = list(begun(steps=3).snapshots())[-1].takes
    assert other.result.resumed == 0  # other settings: another folder
    again = list(begun().snapshots())[-1]
    (take,) = again.takes
    assert take.result.complete and take.result.resumed > 0
    assert "Resumed" in again.progress["text"]
    assert not chunks_in(cache)
    anew = UpsampleOptions(steps=2, seed=take.result.seed)
    upload = write_recording(tmp_path / "speech.wav", 8_000, 1, 4.0)
    *_, whole = engine.stream(upload, tmp_path / "whole", anew)
    assert whole.result.output.read_bytes() == take.result.output.read_bytes()


def chunks_in(cache: Cache) -> list:
    """The chunks of unfinished runs."""
    return list(cache.folder.glob("lily-chunks-*/*.chunk"))
