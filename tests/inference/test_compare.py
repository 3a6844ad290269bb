"""Laws of a comparison: each variant is what it would be alone; Stop keeps what is finished."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_engine import band_limited, make_folder, write

from lily.audio.read import read_audio
from lily.checkpoints.folder_config import read_folder_config
from lily.cli import main
from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.errors import InputError, Stopped
from lily.inference.engine import InferenceEngine
from lily.inference.events import (
    ChunksDone,
    Compared,
    ComparisonResult,
    Finished,
    Planned,
    Sampling,
)
from lily.inference.options import UpsampleOptions as Options

CUTOFF = 4000.0
OPTIONS = Options(seed=3, steps=2, cutoff_hz=CUTOFF)


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> InferenceEngine:
    folder = make_folder(tmp_path_factory.mktemp("model"))
    return InferenceEngine(read_folder_config(folder), device="cpu")


@pytest.fixture(scope="module")
def stereo(tmp_path_factory) -> Path:
    """Two channels with an offset: four chunks."""
    samples = band_limited(3.4, CUTOFF, channels=2) + 0.01
    return write(tmp_path_factory.mktemp("in") / "a.wav", samples)


def compare(engine, path, out, options=OPTIONS, **more) -> ComparisonResult:
    (*_, last) = engine.compare(path, out, options, **more)
    assert isinstance(last, Compared)
    return last.result


def test_each_variant_is_its_own_upsampling_bit_for_bit(engine, contexts, stereo, tmp_path):
    result = compare(engine, stereo, tmp_path / "both")
    assert len(contexts) == 1
    for encoder, take in ((False, result.off), (True, result.on)):
        alone = engine.run_inference(
            stereo, tmp_path / str(encoder), seed=3, steps=2, cutoff_hz=CUTOFF, encoder=encoder
        )
        assert take.output.read_bytes() == alone.output.read_bytes()
        assert (take.samples, take.chunks, take.encoder) == (alone.samples, alone.chunks, encoder)


@pytest.mark.slow
def test_the_recording_is_encoded_once_for_both(engine, stereo, tmp_path, monkeypatch):
    calls = []
    encode = type(engine.model).low_posterior

    def counted(model, log_mel):
        calls.append(log_mel.shape)
        return encode(model, log_mel)

    monkeypatch.setattr(type(engine.model), "low_posterior", counted)
    compare(engine, stereo, tmp_path / "both")
    together = len(calls)
    engine.run_inference(stereo, tmp_path / "on", seed=3, steps=2, cutoff_hz=CUTOFF)
    assert together == len(calls) - together > 1


@pytest.mark.slow
def test_the_same_seed_twice_gives_identical_files(engine, stereo, tmp_path):
    sums = []
    for name in ("first", "second"):
        compare(engine, stereo, tmp_path / name, stems=True)
        files = sorted((tmp_path / name).iterdir())
        sums.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert sums[0] == sums[1]
    names = {f"a.{kind}.wav" for kind in ("diff", "input", "low", "off", "on")}
    names |= {f"a.{kind}.json" for kind in ("off", "on")}
    assert {name for name, _ in sums[0]} == names


def test_the_difference_is_on_minus_off_and_lies_above_the_cutoff(engine, stereo, tmp_path):
    result = compare(engine, stereo, tmp_path / "both")
    off, on, difference = map(read_audio, (result.off.output, result.on.output, result.difference))
    # Three roundings to 24 bits: of samples up to 1, or of float32's mantissa above.
    peak = max(1.0, float(on.abs().max()), float(off.abs().max()))
    assert (on.double() - off - difference).abs().max() <= 3 * 2**-24 * peak
    assert difference.abs().max() > 1e-3
    below = filter_whole(difference, lowpass_kernel(0.7 * CUTOFF, 0.8 * CUTOFF, 48_000))
    assert below.square().mean() < 1e-6 * difference.square().mean()


def test_stems_are_the_input_and_the_band_both_takes_keep(engine, stereo, tmp_path):
    result = compare(engine, stereo, tmp_path / "both", stems=True)
    given, recording = read_audio(stereo), read_audio(result.recording)
    assert (given - recording).abs().max() < 2**-23
    low = read_audio(result.low)
    below = lowpass_kernel(0.7 * CUTOFF, 0.8 * CUTOFF, 48_000)
    left = filter_whole(low - given, below)[:, 4_800:-4_800]  # where it stops, a filter rings
    assert left.square().mean() < 1e-7 * given.square().mean()
    for take in (result.off, result.on):  # what is on top of it is the generated band alone
        highs = read_audio(take.output) - low
        left = filter_whole(highs, below)[:, 4_800:-4_800]
        assert left.square().mean() < 1e-6 * highs.square().mean()


def test_both_rows_move_in_turn_and_cover_every_chunk(engine, stereo, tmp_path):
    events = list(engine.compare(stereo, tmp_path / "o", OPTIONS))
    planned = [e for e in events if isinstance(e, Planned)]
    assert len(planned) == 1
    every = list(range(len(planned[0].chunks)))
    finished = [e for e in events if isinstance(e, ChunksDone)]
    for variant in (0, 1):
        assert [i for e in finished if e.variant == variant for i in e.chunks] == every
    variants = [e.variant for e in events if isinstance(e, Sampling)]
    assert variants[: 2 * 2] == [0, 0, 1, 1] and len(set(variants[-4:])) == 2


@pytest.mark.parametrize("run", ["stream", "compare"])
def test_stopping_early_keeps_the_finished_chunks_within_a_step(engine, stereo, tmp_path, run):
    whole = getattr(engine, run)(stereo, tmp_path / "whole", OPTIONS)
    complete = [e for e in whole][-1].result
    stop, variant = threading.Event(), int(run == "compare")
    for event in getattr(engine, run)(stereo, tmp_path / "cut", OPTIONS, stop=stop):
        assert not (stop.is_set() and isinstance(event, Sampling))
        if isinstance(event, ChunksDone) and event.done >= 2 and event.variant == variant:
            stop.set()
    last = event
    assert isinstance(last, Finished | Compared)
    pairs = [(complete, last.result)]
    if run == "compare":
        pairs = [(complete.off, last.result.off), (complete.on, last.result.on)]
        assert len(last.result.chunks) == last.result.off.chunks
    for full, part in pairs:
        assert full.complete and not part.complete and "Stopped early" in part.message
        assert 2 <= part.chunks < full.chunks
        samples = read_audio(part.output)
        assert samples.shape[1] == part.samples >= 48_000
        # The join with the chunk that never came is the only place that may differ.
        sure = part.samples - 48_000 // 2
        assert torch.equal(samples[:, :sure], read_audio(full.output)[:, :sure])


def test_stopping_before_a_chunk_is_finished_leaves_nothing(engine, stereo, tmp_path):
    stop = threading.Event()
    events = engine.compare(stereo, tmp_path / "o", OPTIONS, stop=stop)
    next(e for e in events if isinstance(e, Sampling))
    stop.set()
    with pytest.raises(Stopped):
        list(events)
    assert list((tmp_path / "o").iterdir()) == []


def test_closing_a_comparison_leaves_its_finished_chunks_alone(engine, stereo, tmp_path):
    events = engine.compare(stereo, tmp_path / "o", OPTIONS, stems=True)
    next(e for e in events if isinstance(e, ChunksDone))
    events.close()
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["a.off.wav.part"]


def test_one_file_in_the_way_stops_all_of_them(engine, stereo, tmp_path):
    (tmp_path / "a.on.wav").write_text("mine")
    with pytest.raises(InputError, match=r"a\.on\.wav exists already"):
        compare(engine, stereo, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.on.wav"]


def test_the_files_of_a_comparison_get_their_names_together_or_not_at_all(engine, stereo, tmp_path):
    folder = tmp_path / "o"
    events = engine.compare(stereo, folder, OPTIONS, stems=True)
    with pytest.raises(InputError, match="exists already"):
        for event in events:
            if isinstance(event, ChunksDone):
                (folder / "a.off.wav").write_bytes(b"mine")
    assert {path.name for path in folder.iterdir()} == {"a.off.wav", "a.off.wav.part"}
    assert (folder / "a.off.wav").read_bytes() == b"mine"


def test_an_untrained_encoder_has_nothing_to_compare(stereo, tmp_path):
    folder = make_folder(tmp_path / "model", trained=False)
    engine = InferenceEngine(read_folder_config(folder), device="cpu")
    with pytest.raises(InputError, match="untrained.*nothing to compare"):
        compare(engine, stereo, tmp_path / "o")


@pytest.mark.parametrize("level", [0.1, 0.0])
def test_a_recording_that_is_left_as_it_is_has_nothing_to_compare(engine, tmp_path, level):
    noise = torch.randn(1, 96_000, generator=torch.Generator().manual_seed(0)) * level
    path = write(tmp_path / "full.wav", noise)
    with pytest.raises(InputError, match="nothing to compare"):
        compare(engine, path, tmp_path / "o", Options(seed=1))
    assert not (tmp_path / "o").exists()


def test_no_file_of_the_user_is_lost_to_the_pictures_and_figures(engine, stereo, tmp_path, capsys):
    mine = tmp_path / "a.reference.wav"
    mine.write_bytes(b"the only copy")
    asked = ["compare", str(stereo), "--weights", "model", "-o", str(tmp_path)]
    for more in ([], ["--reference", str(mine)]):
        (tmp_path / "a.json").write_text("mine" if not more else "")
        assert main([*asked, *more]) == 2
        assert "exists already and is not overwritten" in capsys.readouterr().err
        (tmp_path / "a.json").unlink()
    assert main([*asked, "--reference", str(mine)]) == 2
    assert mine.read_bytes() == b"the only copy"
    assert [path.name for path in tmp_path.iterdir()] == ["a.reference.wav"]


def test_a_silent_chunk_is_as_good_as_equal(engine, tmp_path):
    from lily.evaluation.comparison import EQUAL_DB, _differences
    from lily.evaluation.spectrogram import FLOOR_DB, Picture

    levels = np.full((129, 100), FLOOR_DB)
    levels[:, 50:] = -60.0
    difference = np.full((129, 100), FLOOR_DB)
    difference[:, 50:] = -80.0
    off, apart = (Picture(db, 10.0, 24_000.0) for db in (levels, difference))
    spans = SimpleNamespace(chunks=((0.0, 5.0), (5.0, 10.0)), off=SimpleNamespace(cutoff_hz=CUTOFF))
    chunk_db, whole_db = _differences(spans, off, off, apart)
    assert chunk_db == (EQUAL_DB, -20.0) and whole_db == -20.0
