"""Laws of shared batches: every recording has the bits it has alone, and memory that runs out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from test_engine import band_limited, make_folder, write

from lily.audio.read import read_audio
from lily.checkpoints.model_folder import read_folder_config
from lily.errors import InputError, OutOfMemory
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Finished, StopEarly
from lily.inference.events import UpsampleOptions as Options
from lily.inference.interleave import Failed, together
from lily.inference.sample import RowSampler
from lily.model.latent_diffusion import LatentDiffusion

LENGTHS = (0.4, 1.1, 2.7, 0.2, 5.0, 1.9)  # seconds; the tiny preset's chunks have 1.28
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


def begun(engine: InferenceEngine, paths: list[Path], out: Path, options: Options = OPTIONS):
    return ((path.stem, engine.begin(path, out, options)) for path in paths)


def pair(key, event):
    return key, event


@pytest.mark.parametrize("encoder", [True, False])
def test_recordings_that_share_batches_have_the_bits_they_have_alone(
    engine, recordings, tmp_path, encoder
):
    options = Options(seed=3, steps=2, cutoff_hz=4000.0, encoder=encoder)
    told = list(
        together(begun(engine, recordings, tmp_path / "all", options), engine.sampler, pair)
    )
    assert {key for key, event in told if isinstance(event, Finished)} == set("012345")
    for path in recordings:
        alone = list(engine.stream(path, tmp_path / "one", options))[-1].result
        shared = read_audio(tmp_path / "all" / path.name)
        assert torch.equal(shared, read_audio(alone.output)), path.name


def test_profiles_with_chunks_of_their_own_length_share_what_they_can(engine, recordings, tmp_path):
    options = Options(seed=3, steps=1, profile="audiosr", cutoff_hz=4000.0)
    recordings = recordings[:4]
    list(together(begun(engine, recordings, tmp_path / "all", options), engine.sampler, pair))
    for path in recordings:
        alone = list(engine.stream(path, tmp_path / "one", options))[-1].result
        shared = read_audio(tmp_path / "all" / path.name)
        assert torch.equal(shared, read_audio(alone.output)), path.name


def test_batches_are_full_and_few_recordings_are_open(engine, recordings, tmp_path, monkeypatch):
    sizes, opened = Counter(), []
    run = RowSampler.run

    def spy(sampler, rows):
        sizes[len(rows)] += 1
        opened.append(len(list((tmp_path / "all").glob(".*.part"))))
        return run(sampler, rows)

    monkeypatch.setattr(RowSampler, "run", spy)
    many = [path for path in recordings if path.stem in "03"] * 12
    keys = (
        (n, engine.begin(path, tmp_path / "all" / str(n), OPTIONS)) for n, path in enumerate(many)
    )
    (tmp_path / "all").mkdir()
    list(together(keys, engine.sampler, pair))
    assert sizes[engine.sampler.wanted] >= 0.95 * sum(sizes.values())
    assert max(opened) <= 2 * engine.sampler.wanted


def test_one_bad_recording_fails_alone(engine, recordings, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    paths = [recordings[0], bad, recordings[1]]
    told = list(together(begun(engine, paths, tmp_path / "all"), engine.sampler, pair))
    failed = {key: event.error for key, event in told if isinstance(event, Failed)}
    assert set(failed) == {"bad"} and isinstance(failed["bad"], InputError)
    assert {p.name for p in (tmp_path / "all").glob("*.wav")} == {"0.wav", "1.wav"}


def test_closing_leaves_nothing_half_written(engine, recordings, tmp_path):
    driven = together(begun(engine, recordings, tmp_path / "all"), engine.sampler, pair)
    next(told for told in driven if isinstance(told[1], ChunksDone))
    driven.close()
    assert all(not path.name.endswith(".part") for path in (tmp_path / "all").iterdir())


def test_stopping_early_keeps_what_each_open_recording_has(engine, recordings, tmp_path):
    driven = together(begun(engine, recordings[4:], tmp_path / "all"), engine.sampler, pair)
    for _, event in driven:
        if isinstance(event, ChunksDone) and event.done == 2:
            break
    rest = [driven.throw(StopEarly())]
    rest += list(driven)
    results = [event.result for _, event in rest if isinstance(event, Finished)]
    assert len(results) == 1 and not results[0].complete and results[0].chunks == 2


class Memory:
    """A device whose memory takes so many rows at once."""

    def __init__(self, rows: int, error: Exception) -> None:
        self.rows, self.error, self.asked = rows, error, []

    def of(self, function):
        def predict(model, x, *rest):
            self.asked.append(x.shape[0])
            if x.shape[0] > self.rows:
                raise self.error
            return function(model, x, *rest)

        return predict


CPU_SAYS = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"


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


def test_memory_for_not_even_one_row_is_a_sentence(engine, recordings, tmp_path, monkeypatch):
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
    assert memory.asked == [4] and engine.sampler.batch == 2  # two rows, with and without condition
