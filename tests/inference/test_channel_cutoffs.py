"""Laws of recordings whose channels end at different frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from test_engine import band_limited, engine, write  # noqa: F401, a fixture

from lily.audio.read import read_audio
from lily.audio.write import AudioWriter
from lily.certify.metadata import read_metadata
from lily.certify.verify import verify
from lily.config.presets import load_config
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel
from lily.inference.analyze import analyze
from lily.inference.engine import InferenceEngine
from lily.inference.options import UpsampleOptions

SECONDS = 4.0


def recorded(path, *cutoffs_hz: float, speakers: int | None = None, dc: float = 0.0):
    """Channels of different noise, each with its own cutoff; 0 Hz is silence."""
    channels = [
        band_limited(SECONDS, hz, seed=place)[0] if hz else torch.zeros(int(SECONDS * 48_000))
        for place, hz in enumerate(cutoffs_hz)
    ]
    samples = torch.stack(channels) / 2 + dc
    shape = 48_000, len(channels)
    with AudioWriter(path, *shape, frames=samples.shape[1], speakers=speakers) as writer:
        writer.write(samples)
    return path


def level_db(samples: torch.Tensor, above_hz: float) -> float:
    high = filter_whole(samples[None], highpass_kernel(0.95 * above_hz, above_hz, 48_000))
    return 10 * float(high.square().mean().clamp(min=1e-20).log10())


def analysed(path):
    return analyze(path, 48_000, UpsampleOptions())


@pytest.mark.parametrize("full", [0, 1])
@pytest.mark.parametrize("dc", [0.0, 0.0123])
def test_a_full_channel_stays_to_the_bit_and_the_other_is_filled(engine, tmp_path, full, dc):  # noqa: F811
    ends = [4_000.0, 4_000.0]
    ends[full] = 23_000.0
    path = recorded(tmp_path / "a.wav", *ends, dc=dc)
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1)
    before, after = read_audio(path), read_audio(result.output)
    assert torch.equal(before[full], after[full])
    assert level_db(after[1 - full], 5_000) > level_db(before[1 - full], 5_000) + 20
    names = ("left", "right")
    text = result.diagnosis.text
    assert f"{names[full]} channel full" in text
    assert f"{names[1 - full]} channel filled from 4." in text or "from 3.9 kHz" in text
    assert not [check for check in result.checks if check.passed is False]
    stated = read_metadata(result.metadata)
    assert len(stated.channel_cutoffs) == 2 and stated.cutoffs[0][1] == result.cutoff_hz < 4_200
    assert not [row for row in verify(result.output, path).checks if row.passed is False]


def test_each_channel_is_filled_from_its_own_cutoff(engine, tmp_path):  # noqa: F811
    path = recorded(tmp_path / "a.wav", 3_000.0, 9_000.0, 23_000.0)
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1)
    before, after = read_audio(path), read_audio(result.output)
    assert level_db(after[0] - before[0], 3_500) > -60
    difference = after[1] - before[1]
    assert level_db(difference, 9_500) > -60
    below = filter_whole(difference[None], lowpass_kernel(7_600, 8_000, 48_000))
    assert float(below.square().mean()) < 1e-6 * float(difference.square().mean())
    assert torch.equal(before[2], after[2])


def test_a_full_channel_costs_no_sampling(engine, tmp_path, monkeypatch):  # noqa: F811
    seen = []
    steps = type(engine.sampler).steps
    monkeypatch.setattr(
        type(engine.sampler),
        "steps",
        lambda sampler, items: seen.extend(item.channel for item in items) or steps(sampler, items),
    )
    path = recorded(tmp_path / "a.wav", 4_000.0, 23_000.0)
    engine.run_inference(path, tmp_path / "o", seed=1, steps=1)
    assert set(seen) == {0}


def test_an_interrupted_run_of_such_a_recording_continues_to_the_same_bits(engine, tmp_path):  # noqa: F811
    path = recorded(tmp_path / "a.wav", 4_000.0, 23_000.0)
    whole = engine.run_inference(path, tmp_path / "o", seed=1, steps=1)
    events = engine.stream(path, tmp_path / "p", UpsampleOptions(seed=1, steps=1))
    for event in events:
        if type(event).__name__ == "ChunksDone":
            break
    events.close()
    again = engine.run_inference(path, tmp_path / "p", seed=1, steps=1, resume=True)
    assert again.resumed and again.output.read_bytes() == whole.output.read_bytes()


@pytest.mark.parametrize(
    ("ends", "speakers"),
    [
        ((4_000.0, 0.0), None),  # the other channel is silent
        ((4_000.0, 4_100.0), None),  # as good as equal
        ((9_000.0, 9_000.0, 200.0), 0xB),  # the third is for low frequencies, by the file
        ((9_000.0, 9_000.0, 200.0), None),  # or by its sound
    ],
)
def test_what_has_no_cutoff_of_its_own_is_no_difference(tmp_path, ends, speakers):
    analysis = analysed(recorded(tmp_path / "a.wav", *ends, speakers=speakers))
    assert analysis.diagnosis.channels == () and analysis.diagnosis.kind != "channels"
    low = 2 if speakers else None
    untouched = [analysis.cutoffs.untouched(place) for place in range(len(ends))]
    assert untouched == [place == low for place in range(len(ends))]


@pytest.mark.parametrize("dc", [0.0, 0.0123])
@pytest.mark.parametrize(
    ("ends", "speakers", "sounding_hz"),
    [
        ((9_000.0, 9_000.0, 0.0), 0xB, 1),  # a muted channel for low frequencies
        ((9_000.0, 4_000.0, 0.0), 0xB, 2),
        ((9_000.0, 9_000.0, 200.0), 0xB, 2),
        ((9_000.0, 9_000.0), None, 1),
        ((9_000.0, 0.0), None, 1),
        ((0.0, 0.0), None, 1),
    ],
)
def test_a_silent_channel_has_no_cutoff_that_differs(tmp_path, ends, speakers, sounding_hz, dc):
    analysis = analysed(recorded(tmp_path / "a.wav", *ends, speakers=speakers, dc=dc))
    assert len(analysis.sounding_cutoffs.distinct_hz) == sounding_hz
    assert analysis.sounding_cutoffs.lowest_hz == analysis.cutoff_hz


@pytest.mark.parametrize(
    ("ends", "speakers", "said"),
    [
        ((6_000.0, 23_000.0), 0x3, "left channel filled from "),
        ((23_000.0, 6_000.0, 6_000.0), 0x0, "2. and 3. channels filled from "),
        ((23_000.0, 23_000.0, 6_000.0), 0x7, "centre channel filled from "),
        ((6_000.0, 6_000.0, 23_000.0), 0x7, "front left and front right channels filled from "),
    ],
)
def test_channels_are_named_by_their_speakers(tmp_path, ends, speakers, said):
    diagnosis = analysed(recorded(tmp_path / "a.wav", *ends, speakers=speakers)).diagnosis
    assert diagnosis.kind == "channels" and said in diagnosis.text
    assert len(diagnosis.to_dict()["channels"]) == len(ends)


def test_a_cutoff_that_was_asked_for_holds_for_all_channels(engine, tmp_path):  # noqa: F811
    path = recorded(tmp_path / "a.wav", 4_000.0, 23_000.0)
    result = engine.run_inference(path, tmp_path / "o", seed=1, steps=1, cutoff_hz=4_000.0)
    before, after = read_audio(path), read_audio(result.output)
    assert not torch.equal(before[1], after[1])
    assert soundfile.info(result.output).frames == before.shape[1]
    assert np.isfinite(after.numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "mix", [[[1, 0], [1, 0]], [[1, 0], [-1, 0]], [[1, 0], [0, 1]], [[1, 0], [-0.6, 0.8]]]
)
def test_generated_highs_relate_between_channels_as_the_lows_do(tmp_path, mix):
    """With the bundled model: random weights generate no noise."""
    bundled = InferenceEngine(load_config("lily-mini"), device="cpu")
    samples = torch.tensor(mix, dtype=torch.float32) @ band_limited(2.0, 6_000.0, channels=2)
    path = write(tmp_path / "a.wav", samples / 2)
    made = read_audio(bundled.run_inference(path, tmp_path / "o", seed=1).output)
    highs = filter_whole(made, highpass_kernel(6_500, 7_000, 48_000))
    lows, found = (float(torch.corrcoef(x)[0, 1]) for x in (samples, highs))
    assert found == pytest.approx(lows, abs=0.2)
