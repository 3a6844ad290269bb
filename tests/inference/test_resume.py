"""Laws of resuming: the bits of an uninterrupted run, wherever the first was cut off, or anew."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_engine import make_folder

from lily.checkpoints.model_folder import read_folder_config
from lily.cli import main
from lily.errors import ConfigError
from lily.inference import resume as chunk_cache
from lily.inference.engine import InferenceEngine
from lily.inference.events import (
    ChunksDone,
    Compared,
    Finished,
    Planned,
    Sampling,
    StopEarly,
    UpsampleOptions,
)
from lily.inference.generate import Filler
from lily.inference.resume import KEEP_SECONDS, LOCK, ChunkCache

CHUNKS = 6
ROOMY = 10_000_000  # bytes: more than any run here keeps


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The tests' engine; every test gives it a cache of its own."""
    return InferenceEngine(read_folder_config(make_folder(tmp_path_factory.mktemp("m"))), "cpu")


@pytest.fixture
def cache(engine, tmp_path, monkeypatch) -> Path:
    """An empty cache, and its folder."""
    folder = tmp_path / "chunks"
    monkeypatch.setattr(engine, "cache", ChunkCache(folder, ROOMY))
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Four seconds of stereo: CHUNKS chunks."""
    samples = 0.1 * torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("in") / "four seconds.wav"
    soundfile.write(path, samples.T.numpy(), 8_000)
    return path


def options(**changes) -> UpsampleOptions:
    return UpsampleOptions(**({"seed": 3, "steps": 2, "resume": True} | changes))


def whole(engine, recording, out, chosen=None):
    """A run's result and everything it wrote."""
    *_, last = engine.stream(recording, out, chosen or options())
    return last.result, {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def cut_off(engine, recording, out, chunks, chosen=None) -> None:
    """A run that goes away once so many chunks are done."""
    stream = engine.stream(recording, out, chosen or options())
    while chunks > 0:
        event = next(stream)
        chunks -= len(event.chunks) if isinstance(event, ChunksDone) else 0
    stream.close()
    assert not list(out.iterdir())


def engine_chunks(engine, recording, out) -> int:
    """How many chunks a recording has."""
    stream = engine.stream(recording, out / "planned", options())
    total = next(len(event.chunks) for event in stream if isinstance(event, Planned))
    stream.close()
    return total


def kept_files(cache: Path) -> list[Path]:
    return sorted(cache.glob("run-*/*.chunk"))


@pytest.fixture(scope="module")
def expected(engine, recording, tmp_path_factory):
    """What an uninterrupted run writes."""
    return whole(engine, recording, tmp_path_factory.mktemp("o"), options(resume=False))[1]


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_wherever_it_was_cut_off_it_ends_in_the_same_bits(
    engine, cache, recording, expected, tmp_path, chunks
):
    cut_off(engine, recording, tmp_path / "o", chunks)
    assert kept_files(cache)
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected
    assert chunks <= result.resumed < CHUNKS and "Resumed" in result.message
    assert not list(cache.iterdir())  # complete: nothing is kept of it


def test_cut_off_again_and_again_every_run_begins_where_the_last_ended(
    engine, cache, recording, expected, tmp_path
):
    for chunks in (2, 3):
        cut_off(engine, recording, tmp_path / "o", chunks)
    sampled = []
    for event in engine.stream(recording, tmp_path / "o", options()):
        sampled += event.chunks if isinstance(event, Sampling) else ()
    assert min(sampled) == 3
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == expected


def test_a_comparison_goes_on_too(engine, cache, recording, tmp_path):
    def compared(out):
        *_, last = engine.compare(recording, out, options())
        assert isinstance(last, Compared)
        return last.result, {path.name: path.read_bytes() for path in out.iterdir()}

    _, plain = compared(tmp_path / "plain")
    stream = engine.compare(recording, tmp_path / "o", options())
    while not (isinstance(event := next(stream), ChunksDone) and event.take and event.done > 1):
        pass
    stream.close()
    result, written = compared(tmp_path / "o")
    assert written == plain and result.off.resumed == result.on.resumed >= 2


def test_what_was_stopped_early_is_gone_on_with(engine, cache, recording, expected, tmp_path):
    stream = engine.stream(recording, tmp_path / "early", options())
    while not isinstance(next(stream), ChunksDone):
        pass
    early = stream.throw(StopEarly()).result
    assert not early.complete and "Run it again to go on from there." in early.message
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected and result.resumed == early.chunks


def test_without_resume_it_starts_anew(engine, cache, recording, expected, tmp_path):
    cut_off(engine, recording, tmp_path / "o", 3)
    result, written = whole(engine, recording, tmp_path / "o", options(resume=False))
    assert result.resumed == 0 and written == expected


def test_a_seed_that_was_drawn_is_drawn_once(engine, cache, recording, tmp_path):
    unasked = options(seed=None)
    cut_off(engine, recording, tmp_path / "o", 4, unasked)
    result, written = whole(engine, recording, tmp_path / "o", unasked)
    assert result.resumed >= 4
    again = whole(engine, recording, tmp_path / "again", options(seed=result.seed))
    assert written == again[1]


def test_another_question_finds_nothing(engine, cache, recording, tmp_path):
    cut_off(engine, recording, tmp_path / "o", 5)
    louder = tmp_path / recording.name
    soundfile.write(louder, 1.5 * soundfile.read(recording)[0], 8_000)
    pieces = ((0.0, 3_000.0), (2.0, 3_900.0))
    questions = [
        (recording, {"seed": 4}),
        (recording, {"steps": 3}),
        (recording, {"encoder": False}),
        (recording, {"guidance": 2.0}),
        (recording, {"sampler": "ddim"}),
        (recording, {"cutoff_hz": 3_000.0}),
        (recording, {"cutoff_hz": pieces}),
        (recording, {"cutoff_hz": (pieces[0], (2.5, 3_900.0))}),
        (louder, {}),
    ]
    for number, (path, changes) in enumerate(questions):
        stream = engine.stream(path, tmp_path / f"o{number}", options(**changes))
        first = next(e for e in stream if isinstance(e, Sampling | ChunksDone))
        assert isinstance(first, Sampling), changes
        stream.close()
    assert len(list(cache.iterdir())) == 1  # who has made nothing leaves nothing


def test_another_container_or_limit_is_the_same_question(engine, cache, recording, tmp_path):
    cut_off(engine, recording, tmp_path / "o", 5)
    asked = options(format="flac", longest_seconds=60.0)
    assert whole(engine, recording, tmp_path / "o", asked)[0].resumed >= 5


def damages():
    """Ways in which a file of the cache may be wrong."""
    generator = np.random.default_rng(0)

    def flipped(data: bytes) -> bytes:
        place = int(generator.integers(len(data)))
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return {
        "empty": lambda data: b"",
        "cut": lambda data: data[: int(generator.integers(len(data)))],
        "flipped": flipped,
        "longer": lambda data: data + b"\0",
        "zeros": lambda data: bytes(len(data)),
    }


def test_what_is_damaged_is_made_anew(engine, cache, recording, tmp_path):
    mono = tmp_path / "mono.wav"  # two chunks a batch: some are damaged in one of them
    soundfile.write(mono, soundfile.read(recording)[0][:, 0], 8_000)
    _, expected = whole(engine, mono, tmp_path / "whole", options(resume=False))
    cut_off(engine, mono, tmp_path / "o", CHUNKS)
    files = kept_files(cache)
    assert len(files) == CHUNKS
    for path, damage in zip(files, damages().values(), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    (files[0].parent / "seed").write_bytes(b"[")
    result, written = whole(engine, mono, tmp_path / "o")
    assert written == expected and result.resumed == CHUNKS - len(damages()) == 1


def test_no_damage_to_a_file_gives_another_chunk(randn, tmp_path):
    low = randn(2, 16, 8)
    made = torch.cat([low[..., :3], randn(2, 16, 5)], dim=2)
    data, path = chunk_cache._packed(made, low), tmp_path / "a.chunk"
    path.write_bytes(data)
    assert torch.equal(chunk_cache._read(path, low), made)
    cuts = [data[:length] for length in range(0, len(data), 5)]
    for damaged in cuts + [damage(data) for damage in damages().values() for _ in range(50)]:
        path.write_bytes(damaged)
        assert chunk_cache._read(path, low) is None


def test_what_waits_behind_a_lost_chunk_does_not_grow_with_the_recording(
    engine, cache, tmp_path, monkeypatch
):
    held = []

    class Watched(Filler):
        def _push(self, frames):
            super()._push(frames)
            held.append(len(self._takes[0].results))

    monkeypatch.setattr(engine, "filler", Watched)
    long = tmp_path / "long.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000 * 40)
    soundfile.write(long, noise, 8_000)
    total = engine_chunks(engine, long, tmp_path)
    cut_off(engine, long, tmp_path / "o", total)
    first = min(kept_files(cache), key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    held.clear()
    result, _ = whole(engine, long, tmp_path / "o")
    assert result.resumed == total - 1
    # Behind the lost one: a batch, and what one block of the file brings.
    assert max(held) <= engine.settings.batch + total // 4 and total > 40


def test_a_sound_file_under_the_name_of_another_chunk_is_not_taken_for_it(
    engine, cache, recording, tmp_path
):
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, soundfile.read(recording)[0][:, 0], 8_000)
    cut_off(engine, mono, tmp_path / "o", 4)
    foreign = kept_files(cache)[0].read_bytes()
    cut_off(engine, recording, tmp_path / "o", 4)
    (stereo,) = {p.parent for p in kept_files(cache)} - {
        p.parent for p in kept_files(cache) if p.read_bytes() == foreign
    }
    for path in stereo.glob("*.chunk"):
        path.write_bytes(foreign)
    assert whole(engine, recording, tmp_path / "o")[0].resumed == 0


@pytest.mark.parametrize("name", ["_write", "_removed_all"])
def test_a_full_disk_costs_the_chunks_and_not_the_run(
    engine, cache, recording, expected, tmp_path, monkeypatch, name
):
    if name == "_write":

        def full(path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(chunk_cache, "_write", full)
    else:  # the folder's place is taken by a file
        cache.write_text("not a folder")
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected and result.resumed == 0


def test_a_run_keeps_no_more_than_the_limit_and_goes_on(
    engine, cache, recording, expected, tmp_path, monkeypatch
):
    cut_off(engine, recording, tmp_path / "o", CHUNKS)
    total = sum(path.stat().st_size for path in kept_files(cache))
    shutil.rmtree(cache)
    monkeypatch.setattr(engine, "cache", ChunkCache(cache, total // 2))
    cut_off(engine, recording, tmp_path / "o", CHUNKS)
    assert 0 < sum(path.stat().st_size for path in cache.rglob("*")) - 4096 <= total // 2
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected and 0 < result.resumed < CHUNKS


def test_the_oldest_runs_make_room_but_not_one_that_is_running(
    engine, cache, recording, tmp_path, monkeypatch
):
    for number in range(3):
        cut_off(engine, recording, tmp_path / "o", CHUNKS, options(seed=number))
        time.sleep(0.05)
    size = sum(path.stat().st_size for path in kept_files(cache)) // 3
    runs = sorted(cache.glob("run-*"), key=lambda folder: folder.stat().st_mtime)
    monkeypatch.setattr(engine, "cache", ChunkCache(cache, int(3.5 * size)))
    with (runs[0] / LOCK).open("ab") as lock:
        assert chunk_cache.lock_file(lock)  # as a process that runs it does
        cut_off(engine, recording, tmp_path / "o", CHUNKS, options(seed=3))
        left = set(cache.glob("run-*"))
    assert runs[0] in left and runs[1] not in left and len(left) == 3


def test_a_run_that_nobody_came_back_for_goes_after_a_week(engine, cache, recording, tmp_path):
    for number in range(2):
        cut_off(engine, recording, tmp_path / "o", 2, options(seed=number))
    old = cache / "run-old"
    old.mkdir()
    (old / "a.chunk").write_bytes(b"x")
    os.utime(old, (time.time() - KEEP_SECONDS - 60,) * 2)
    cut_off(engine, recording, tmp_path / "o", 2, options(seed=2))
    assert not old.exists() and len(list(cache.iterdir())) == 3


def test_two_runs_of_one_recording_at_once_do_each_other_no_harm(
    engine, cache, recording, expected, tmp_path
):
    streams = [engine.stream(recording, tmp_path / name, options()) for name in "ab"]
    others = engine.stream(recording, tmp_path / "c", options(seed=9))
    while streams:
        next(others, None)
        streams = [stream for stream in streams if not isinstance(next(stream), Finished)]
    for name in "ab":
        assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == expected


def test_nothing_is_kept_where_that_is_asked_for(
    engine, recording, expected, tmp_path, monkeypatch
):
    environment = {"LILY_CHUNKS": str(tmp_path / "chunks"), "LILY_CHUNKS_MB": "0"}
    monkeypatch.setattr(engine, "cache", ChunkCache.from_environment(environment))
    cut_off(engine, recording, tmp_path / "o", 5)
    assert not (tmp_path / "chunks").exists()
    assert whole(engine, recording, tmp_path / "o")[1] == expected


@pytest.mark.parametrize("limit", ["much", "-1", "inf", "nan"])
def test_a_limit_is_a_number_of_megabytes(limit):
    with pytest.raises(ConfigError, match="LILY_CHUNKS_MB"):
        ChunkCache.from_environment({"LILY_CHUNKS_MB": limit})


def test_the_command_line_goes_on_and_leaves_what_is_finished(
    recording, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("LILY_CHUNKS", str(tmp_path / "chunks"))
    short = tmp_path / "short.wav"
    soundfile.write(short, soundfile.read(recording)[0][:8_000], 8_000)
    folder, out = make_folder(tmp_path / "model"), tmp_path / "out"
    command = ["upsample", short, recording, "-o", out, "--weights", folder]
    command = [*map(str, command), "--steps", "1", "--seed", "1", "--device", "cpu"]
    keep, kept = chunk_cache.KeptChunks.keep, []

    def keep_some(self, take, index, log_mel):
        keep(self, take, index, log_mel)
        kept.append(index)
        if index == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(chunk_cache.KeptChunks, "keep", keep_some)
    assert main(command) == 130
    assert "With --resume the same command goes on" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {"short.wav", "short.json"}
    monkeypatch.setattr(chunk_cache.KeptChunks, "keep", keep)
    before = (out / "short.wav").stat().st_mtime_ns
    assert main([*command, "--resume", "--json"]) == 0
    streams = capsys.readouterr()
    assert "short.wav is there already" in streams.err and '"resumed": 5' in streams.out
    assert (out / "short.wav").stat().st_mtime_ns == before
    resumed = (out / "four seconds.wav").read_bytes()
    command[command.index(str(out))] = str(tmp_path / "anew")
    assert main(command) == 0
    assert (tmp_path / "anew" / "four seconds.wav").read_bytes() == resumed
