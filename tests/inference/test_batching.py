"""Laws of shared batches: every recording has the samples it has alone; memory that runs out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_engine import band_limited, make_folder, write

from lily.audio.read import read_audio
from lily.checkpoints.folder_config import read_folder_config
from lily.errors import InputError, OutOfMemory, Stopped
from lily.inference.batching import Batcher
from lily.inference.engine import InferenceEngine
from lily.inference.events import (
    ChunksDone,
    Event,
    Failed,
    Finished,
    Sampling,
    UpsampleResult,
)
from lily.inference.options import UpsampleOptions as Options
from lily.inference.sample import ChunkSampler
from lily.model.latent_diffusion import LatentDiffusion

LENGTHS = (0.4, 1.1, 2.7, 0.2, 3.4, 1.9)  # seconds; the tiny preset's chunks have 1.28
OPTIONS = Options(seed=3, steps=2, cutoff_hz=4000.0)


@pytest.fixture
def engine(tmp_path) -> InferenceEngine:
    return InferenceEngine(read_folder_config(make_folder(tmp_path / "model")), device="cpu")


@pytest.fixture
def recordings(tmp_path) -> list[Path]:
    return [
        write(tmp_path / f"{n}.wav", band_limited(seconds, 4000.0, channels=1 + n % 2, seed=n))
        for n, seconds in enumerate(LENGTHS)
    ]


def run(
    engine: InferenceEngine,
    paths: list[Path],
    out: Path,
    options: Options = OPTIONS,
    stop: threading.Event | None = None,
) -> Iterator[tuple[str, Event]]:
    """All recordings together; yields each event with the stem of its recording."""
    recordings = {engine.recording(path, out, options): path.stem for path in paths}
    for recording, event in engine.run(recordings, stop):
        yield recordings[recording], event


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [True, False])
def test_recordings_that_share_batches_have_the_samples_they_have_alone(
    engine, recordings, tmp_path, encoder
):
    options = Options(seed=3, steps=2, cutoff_hz=4000.0, encoder=encoder)
    events = list(run(engine, recordings, tmp_path / "all", options))
    assert {stem for stem, event in events if isinstance(event, Finished)} == set("012345")
    for path in recordings:
        alone = list(engine.stream(path, tmp_path / "one", options))[-1].result
        shared = read_audio(tmp_path / "all" / path.name)
        assert torch.equal(shared, read_audio(alone.output)), path.name


@pytest.mark.slow
def test_recordings_with_chunks_of_different_length_share_what_they_can(
    engine, recordings, tmp_path
):
    options = Options(seed=3, steps=1, profile="audiosr", cutoff_hz=4000.0)
    long = write(tmp_path / "long.wav", band_limited(6.0, 4000.0, seed=9))  # two segments of 5.12 s
    recordings = [recordings[0], long, recordings[1]]
    list(run(engine, recordings, tmp_path / "all", options))
    for path in recordings:
        alone = list(engine.stream(path, tmp_path / "one", options))[-1].result
        shared = read_audio(tmp_path / "all" / path.name)
        assert torch.equal(shared, read_audio(alone.output)), path.name


@pytest.mark.slow
def test_batches_are_full_and_few_recordings_are_open(engine, recordings, tmp_path, monkeypatch):
    sizes, opened = Counter(), []
    steps = ChunkSampler.steps

    def spy(sampler, items):
        sizes[len(items)] += 1
        opened.append(len(list((tmp_path / "all").glob("*/.*.part"))))
        return steps(sampler, items)

    monkeypatch.setattr(ChunkSampler, "steps", spy)
    short = [path for path in recordings if path.stem in "03"] * 12
    begun = (engine.recording(p, tmp_path / "all" / str(n), OPTIONS) for n, p in enumerate(short))
    results = [event for _, event in engine.run(begun) if isinstance(event, Finished)]
    assert len(results) == len(short)
    assert sizes[engine.settings.batch] >= 0.95 * sum(sizes.values())
    assert 0 < max(opened) <= 2 * engine.settings.batch


def test_a_recording_is_read_only_when_its_turn_comes(engine, recordings, tmp_path):
    begun = []

    def lazily():
        for path in recordings:
            begun.append(path.stem)
            yield engine.recording(path, tmp_path / "all", OPTIONS)

    first = next(event for _, event in engine.run(lazily()) if isinstance(event, ChunksDone))
    assert first.done == 1 and len(begun) <= 1 + engine.settings.batch


def test_one_bad_recording_fails_alone(engine, recordings, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    events = list(run(engine, [recordings[0], bad, recordings[1]], tmp_path / "all"))
    failed = {stem: event.error for stem, event in events if isinstance(event, Failed)}
    assert set(failed) == {"bad"} and isinstance(failed["bad"], InputError)
    assert {p.name for p in (tmp_path / "all").glob("*.wav")} == {"0.wav", "1.wav"}


def test_a_recording_that_cannot_be_written_fails_alone(engine, recordings, tmp_path, monkeypatch):
    from lily.audio.write import AudioWriter

    write_block = AudioWriter.write

    def full(writer, block):
        if writer.path.stem == "4":  # the longest: it fails while it is read, with items waiting
            raise OSError(28, "No space left on device")
        return write_block(writer, block)

    monkeypatch.setattr(AudioWriter, "write", full)
    events = list(run(engine, recordings, tmp_path / "all"))
    ends = [(stem, type(e)) for stem, e in events if isinstance(e, Failed | Finished)]
    assert sorted(ends) == [(stem, Failed if stem == "4" else Finished) for stem in "012345"]
    assert {p.stem for p in (tmp_path / "all").glob("*.wav")} == set("01235")


def test_closing_leaves_nothing_half_written(engine, recordings, tmp_path):
    running = run(engine, recordings, tmp_path / "all")
    next(stem for stem, event in running if isinstance(event, ChunksDone))
    running.close()
    assert all(path.suffix != ".part" or path.is_dir() for path in (tmp_path / "all").iterdir())


def test_stopping_keeps_what_each_open_recording_has(engine, recordings, tmp_path):
    stop, results, stopped = threading.Event(), [], []
    for _, event in run(engine, recordings[4:], tmp_path / "all", stop=stop):
        if isinstance(event, ChunksDone) and event.done == 2:
            stop.set()
        results += [event.result] if isinstance(event, Finished) else []
        stopped += [event.error] if isinstance(event, Failed) else []
    assert len(results) == 1 and not results[0].complete and results[0].chunks == 2
    assert all(isinstance(error, Stopped) for error in stopped)


def test_no_step_follows_a_stop(engine, recordings, tmp_path):
    stop, after = threading.Event(), []
    with pytest.raises(Stopped):
        for event in engine.stream(recordings[4], tmp_path / "o", OPTIONS, stop=stop):
            after += [event] if stop.is_set() else []
            if isinstance(event, Sampling):
                stop.set()
    assert after == [] and not list((tmp_path / "o").iterdir())


class Memory:
    """A device whose memory takes so many rows at once."""

    def __init__(self, rows: int, error: Exception) -> None:
        self.rows, self.error, self.asked = rows, error, []

    def of(self, function):
        def call(model, x, *rest, **options):
            self.asked.append(x.shape[0])
            if x.shape[0] > self.rows:
                raise self.error
            return function(model, x, *rest, **options)

        return call


CPU_SAYS = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError(CPU_SAYS)])
@pytest.mark.parametrize("method", ["predict_v", "low_posterior", "decode"])
def test_short_memory_halves_the_batch_and_the_result_says_so(
    engine, recordings, tmp_path, monkeypatch, error, method
):
    options = Options(seed=3, steps=2, guidance=1.0, cutoff_hz=4000.0)
    path = recordings[4]
    full = list(engine.stream(path, tmp_path / "full", options))[-1].result
    assert not full.message
    memory = Memory(1, error)
    monkeypatch.setattr(LatentDiffusion, method, memory.of(getattr(LatentDiffusion, method)))
    halved = list(engine.stream(path, tmp_path / "halved", options))[-1].result
    assert memory.asked[0] == 2 and memory.asked.count(2) == 1  # it is not tried again
    assert "1 were taken" in halved.message and halved.complete
    difference = (read_audio(full.output) - read_audio(halved.output)).abs().max()
    assert difference < 1e-4 * read_audio(full.output).abs().max()


def test_memory_for_not_even_one_item_is_a_sentence(engine, recordings, tmp_path, monkeypatch):
    memory = Memory(0, RuntimeError(CPU_SAYS))
    monkeypatch.setattr(LatentDiffusion, "predict_v", memory.of(LatentDiffusion.predict_v))
    with pytest.raises(OutOfMemory, match="does not hold one chunk of 1.28 s"):
        list(engine.stream(recordings[0], tmp_path / "out", OPTIONS))
    assert not list((tmp_path / "out").iterdir())


def test_another_error_of_the_networks_is_not_taken_for_memory(
    engine, recordings, tmp_path, monkeypatch
):
    memory = Memory(0, RuntimeError("shapes differ"))
    monkeypatch.setattr(LatentDiffusion, "predict_v", memory.of(LatentDiffusion.predict_v))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(engine.stream(recordings[0], tmp_path / "out", OPTIONS))
    assert memory.asked == [4] and engine.sampler.batch == 2  # items, with and without


def test_a_recording_that_has_ended_gets_no_more_samples():
    """Where memory is short, a batch comes in parts: a failure in the first must end them all."""

    class Broken:
        complete, closed, added = False, 0, 0

        def read(self):
            yield "planned"

        def add(self):
            self.added += 1
            raise OSError(28, "No space left on device")
            yield

        def close(self):
            self.closed += 1

    recording = Broken()
    with Batcher(SimpleNamespace()) as batcher:
        assert list(batcher.batches([recording])) == [(recording, "planned")]
        ends = [event for _ in range(2) for event in batcher.attempt(recording, recording.add())]
    assert [type(event) for _, event in ends] == [Failed]
    assert (recording.added, recording.closed) == (1, 1)


def test_the_speed_of_a_resumed_run_counts_the_new_chunks_alone():
    result = UpsampleResult(
        **dict.fromkeys((f.name for f in fields(UpsampleResult) if f.default is MISSING), 0)
    )
    result = replace(result, seconds=20.0, compute_seconds=2.0, chunks=4, resumed=3)
    assert result.real_time_factor == pytest.approx(2 / 5)
    assert replace(result, resumed=0).real_time_factor == pytest.approx(0.1)
    assert replace(result, resumed=0, chunks=0).real_time_factor == pytest.approx(0.1)
