"""Laws of resuming: the samples of an uninterrupted run, wherever the first one was cut off."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_engine import make_folder

from lily.checkpoints.folder_config import read_folder_config
from lily.cli import main
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Compared, Finished, Sampling
from lily.inference.options import UpsampleOptions
from lily.inference.recording import RecordingRun
from lily.inference.resume import ChunkStore

CHUNKS = 6
PART = "four seconds.wav.part"


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> InferenceEngine:
    return InferenceEngine(read_folder_config(make_folder(tmp_path_factory.mktemp("m"))), "cpu")


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
    """A run's result and everything that is in its folder afterwards."""
    *_, last = engine.stream(recording, out, chosen or options())
    return last.result, {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def cut_off(engine, recording, out, chunks, chosen=None) -> list[Path]:
    """Cancel a run once so many chunks are done; returns the files of the finished chunks."""
    stream = engine.stream(recording, out, chosen or options())
    while chunks > 0:
        event = next(stream)
        chunks -= len(event.chunks) if isinstance(event, ChunksDone) else 0
    stream.close()
    assert [path.name for path in out.iterdir()] == [f"{recording.name}.part"]
    return chunk_files(out / f"{recording.name}.part")


def chunk_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.chunk"))


@pytest.fixture(scope="module")
def expected(engine, recording, tmp_path_factory):
    """What an uninterrupted run writes; no chunk is left of it."""
    return whole(engine, recording, tmp_path_factory.mktemp("o"), options(resume=False))[1]


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_wherever_it_was_cut_off_it_ends_in_the_same_bits(
    engine, recording, expected, tmp_path, chunks
):
    assert len(cut_off(engine, recording, tmp_path / "o", chunks)) >= chunks
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected
    assert chunks <= result.resumed < CHUNKS and "Resumed" in result.message


def test_cut_off_again_and_again_every_run_continues_the_last(
    engine, recording, expected, tmp_path
):
    for chunks in (2, 3):
        cut_off(engine, recording, tmp_path / "o", chunks)
    sampled = []
    for event in engine.stream(recording, tmp_path / "o", options()):
        sampled += event.chunks if isinstance(event, Sampling) else ()
    assert min(sampled) == 3
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == expected


@pytest.mark.slow
def test_a_comparison_resumes_too(engine, recording, tmp_path):
    def compared(out):
        *_, last = engine.compare(recording, out, options())
        assert isinstance(last, Compared)
        return last.result, {path.name: path.read_bytes() for path in out.iterdir()}

    _, plain = compared(tmp_path / "plain")
    stream = engine.compare(recording, tmp_path / "o", options())
    while not (isinstance(event := next(stream), ChunksDone) and event.variant and event.done > 1):
        pass
    stream.close()
    result, written = compared(tmp_path / "o")
    assert written == plain and result.off.resumed == result.on.resumed >= 2


def test_a_stop_during_the_last_moment_loses_no_result(
    engine, recording, expected, tmp_path, monkeypatch
):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:  # all chunks are kept, and no output
        patched.setattr("lily.inference.output.OutputWriter.close", full)
        with pytest.raises(OSError, match="No space"):
            whole(engine, recording, tmp_path)
    stop, finish = threading.Event(), RecordingRun.finish

    def stopped_meanwhile(run):
        for event in finish(run):
            stop.set()
            yield event

    monkeypatch.setattr(RecordingRun, "finish", stopped_meanwhile)
    events = list(engine.stream(recording, tmp_path, options(), stop=stop))
    assert [type(event) for event in events].count(Finished) == 1
    assert events[-1].result.complete and events[-1].result.resumed == CHUNKS
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


def test_a_run_that_was_stopped_early_can_be_continued(engine, recording, expected, tmp_path):
    stop, chunks = threading.Event(), tmp_path / "chunks"
    asked = options(chunk_folder=chunks)
    for event in engine.stream(recording, tmp_path / "early", asked, stop=stop):
        if isinstance(event, ChunksDone):
            stop.set()
    early = event.result
    assert not early.complete and len(chunk_files(chunks)) == early.chunks
    result, written = whole(engine, recording, tmp_path / "o", asked)
    assert written == expected and result.resumed == early.chunks and not chunks.exists()


@pytest.mark.slow
def test_without_resume_it_starts_anew(engine, recording, expected, tmp_path):
    cut_off(engine, recording, tmp_path / "o", 3)
    result, written = whole(engine, recording, tmp_path / "o", options(resume=False))
    assert result.resumed == 0 and written == expected


@pytest.mark.slow
def test_a_seed_that_was_drawn_is_drawn_once(engine, recording, tmp_path):
    drawn = options(seed=None)
    cut_off(engine, recording, tmp_path / "o", 4, drawn)
    result, written = whole(engine, recording, tmp_path / "o", drawn)
    assert result.resumed >= 4
    again = whole(engine, recording, tmp_path / "again", options(seed=result.seed))
    assert written == again[1]


CHANGES = [
    {"seed": 4},
    {"steps": 3},
    {"encoder": False},
    {"guidance": 2.0},
    {"sampler": "ddim"},
    {"cutoff_hz": 3_000.0},
    {"cutoff_hz": ((0.0, 3_000.0), (2.0, 3_900.0))},
    {"louder": True},
    {"context": True},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "-".join(changes))
def test_a_run_with_other_settings_starts_anew_and_says_what_differs(
    engine, recording, tmp_path, caplog, changes
):
    said = "are of another recording" if "louder" in changes else "have other settings"
    folder = tmp_path / "chunks"
    cut_off_at = options(chunk_folder=folder)
    stream = engine.stream(recording, tmp_path / "o", cut_off_at)
    next(event for event in stream if isinstance(event, ChunksDone))
    stream.close()
    assert chunk_files(folder)
    path, changes, context = recording, dict(changes), None
    if changes.pop("louder", False):
        path = tmp_path / recording.name
        soundfile.write(path, 1.5 * soundfile.read(recording)[0], 8_000)
    if changes.pop("context", False):
        context = engine.context_of(recording, options(cutoff_hz=3_000.0))
    stream = engine.stream(
        path, tmp_path / "other", options(chunk_folder=folder, **changes), context=context
    )
    first = next(event for event in stream if isinstance(event, Sampling | ChunksDone))
    assert isinstance(first, Sampling) and said in caplog.text
    stream.close()
    assert not folder.exists()  # its own, and it had no chunk yet


def test_another_container_or_limit_makes_no_difference(engine, recording, tmp_path):
    folder = tmp_path / "chunks"
    stream = engine.stream(recording, tmp_path / "o", options(chunk_folder=folder))
    next(event for event in stream if isinstance(event, ChunksDone))
    stream.close()
    asked = options(format="flac", longest_seconds=60.0, chunk_folder=folder)
    assert whole(engine, recording, tmp_path / "o", asked)[0].resumed >= 1


def damages():
    """Ways in which a chunk's file may be wrong."""
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


@pytest.mark.slow
@pytest.mark.parametrize("damage", damages())
def test_only_a_damaged_chunk_is_generated_again(engine, recording, expected, tmp_path, damage):
    files = cut_off(engine, recording, tmp_path / "o", 5)
    files[1].write_bytes(damages()[damage](files[1].read_bytes()))
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected and result.resumed == len(files) - 1


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"seed": "3"}', b"\xff", b"[" * 99_999])
def test_without_its_key_no_chunk_is_used(engine, recording, expected, tmp_path, content):
    cut_off(engine, recording, tmp_path / "o", 3)
    (tmp_path / "o" / PART / "run.json").write_bytes(content)
    result, written = whole(engine, recording, tmp_path / "o")
    assert written == expected and result.resumed == 0


def test_no_damage_to_a_file_gives_another_chunk(randn, tmp_path):
    store = ChunkStore.open(tmp_path, "key", 0, resume=False)
    chunk = randn(2, 16, 8)
    store.save(3, 0, chunk)
    (path,) = chunk_files(tmp_path)
    data = path.read_bytes()
    assert torch.equal(store.load(3, 0, (2, 16, 8)), chunk)
    cuts = [data[:length] for length in range(0, len(data), 5)]
    for damaged in cuts + [damage(data) for damage in damages().values() for _ in range(50)]:
        path.write_bytes(damaged)
        assert store.load(3, 0, (2, 16, 8)) is None


def test_a_chunk_under_another_name_or_of_another_run_is_not_used(randn, tmp_path):
    stores = [ChunkStore.open(tmp_path / key, key, 0, resume=False) for key in ("a", "b")]
    stores[0].save(0, 0, randn(1, 8, 4))
    data = chunk_files(tmp_path / "a")[0].read_bytes()
    for folder, name in (("a", "000001-0"), ("a", "000000-1"), ("b", "000000-0")):
        (tmp_path / folder / f"{name}.chunk").write_bytes(data)
    assert stores[0].load(0, 0, (1, 8, 4)) is not None
    assert stores[0].load(1, 0, (1, 8, 4)) is None
    assert stores[0].load(0, 1, (1, 8, 4)) is None
    assert stores[1].load(0, 0, (1, 8, 4)) is None


@pytest.mark.slow
def test_memory_does_not_grow_behind_a_lost_chunk(engine, tmp_path, monkeypatch):
    """The lost chunk is sampled before the kept ones behind it are read."""
    long = tmp_path / "long.wav"
    soundfile.write(long, np.random.default_rng(0).normal(0, 0.1, 8_000 * 20), 8_000)
    files = cut_off(engine, long, tmp_path / "o", 20)
    files[2].unlink()
    held, done = [], 0
    for event in engine.stream(long, tmp_path / "o", options()):
        if isinstance(event, Sampling):
            held.append(max(event.chunks) - done)
        elif isinstance(event, ChunksDone):
            done = event.done
    assert event.result.resumed == len(files) - 1
    assert max(held) <= engine.settings.batch


@pytest.mark.parametrize("problem", ["full", "taken"])
def test_where_chunks_cannot_be_kept_the_run_continues(
    engine, recording, expected, tmp_path, monkeypatch, problem
):
    if problem == "full":
        write = Path.write_bytes

        def full(path: Path, data: bytes) -> int:
            if path.suffix == ".chunk":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", full)
    else:  # a file lies where the folder should be
        (tmp_path / "o").mkdir()
        (tmp_path / "o" / PART).write_text("mine")
    result, written = whole(engine, recording, tmp_path / "o")
    assert result.resumed == 0
    if problem == "taken":
        assert written.pop(PART) == b"mine"
    assert written == expected


def test_files_that_are_not_lilys_stay(engine, recording, tmp_path):
    folder = tmp_path / "o" / PART
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    *_, last = engine.stream(recording, tmp_path / "o", options())
    assert last.result.complete
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_two_runs_of_one_output_at_once_do_not_mix(engine, recording, expected, tmp_path, caplog):
    chunks = tmp_path / "chunks"
    streams = [
        engine.stream(recording, tmp_path / name, options(chunk_folder=chunks)) for name in "ab"
    ]
    while streams:
        streams = [stream for stream in streams if not isinstance(next(stream), Finished)]
    assert "Another process uses" in caplog.text
    for name in "ab":
        assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == expected


def test_the_command_line_resumes_and_leaves_what_is_finished(
    recording, tmp_path, capsys, monkeypatch
):
    short = tmp_path / "short.wav"
    soundfile.write(short, soundfile.read(recording)[0][:8_000], 8_000)
    folder, out = make_folder(tmp_path / "model"), tmp_path / "out"
    command = ["upsample", short, recording, "-o", out, "--weights", folder]
    command = [*map(str, command), "--steps", "1", "--seed", "1", "--device", "cpu"]
    save, saved = ChunkStore.save, []

    def save_some(self, chunk, variant, log_mels, take=None):
        save(self, chunk, variant, log_mels, take)
        saved.append(chunk)
        if chunk == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(ChunkStore, "save", save_some)
    assert main(command) == 130
    assert "--resume" in capsys.readouterr().err
    assert {path.suffix for path in out.iterdir()} == {".wav", ".json", ".part"}
    assert not (out / recording.name).exists()
    monkeypatch.setattr(ChunkStore, "save", save)
    before = (out / "short.wav").stat().st_mtime_ns
    assert main([*command, "--resume", "--json"]) == 0
    streams = capsys.readouterr()
    assert "short.wav exists already and is kept" in streams.err and '"resumed": 5' in streams.out
    assert (out / "short.wav").stat().st_mtime_ns == before
    assert not list(out.glob("*.part"))
    resumed = (out / recording.name).read_bytes()
    command[command.index(str(out))] = str(tmp_path / "anew")
    assert main(command) == 0
    assert (tmp_path / "anew" / recording.name).read_bytes() == resumed
