"""The seam score of the bundled model over three minutes, against controls."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.certify.metadata import read_metadata
from lily.certify.seams import SeamMeter, SeamScore
from lily.checkpoints.resolve import bundled_folder
from lily.config.presets import load_config
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel
from lily.inference.engine import InferenceEngine

CUTOFF, SECONDS = 3_500.0, 180


@pytest.fixture(scope="module")
def engine() -> InferenceEngine:
    return InferenceEngine(load_config("lily-mini"), device="cpu")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Music and speech, over and over: 22 s against chunks of 4.48 s, so that no join repeats."""
    examples = bundled_folder("lily-mini").parent / "examples"
    once = torch.cat([read_audio(examples / f"{n}.flac") for n in ("music", "speech")], dim=-1)
    whole = once.repeat(1, -(-SECONDS * 48_000 // once.shape[-1]))[:, : SECONDS * 48_000]
    narrow = filter_whole(whole, lowpass_kernel(0.97 * CUTOFF, 1.03 * CUTOFF, 48_000))
    path = tmp_path_factory.mktemp("in") / "three minutes.wav"
    write_audio(path, narrow, 48_000)
    return path


@pytest.mark.slow
def test_three_minutes_of_the_bundled_model_have_no_seams(engine, recording, tmp_path):
    result = engine.run_inference(recording, tmp_path / "o", seed=1, cutoff_hz=CUTOFF)
    stated = read_metadata(result.metadata)
    assert all(check.passed is not False for check in stated.checks())
    joins, output = stated.joins, read_audio(result.output)
    cutoffs = Cutoffs.from_seconds(stated.cutoffs, 48_000)

    def score(samples: torch.Tensor, places: tuple[float, ...]) -> SeamScore:
        meter = SeamMeter(places, stated.fade, cutoffs, 48_000)
        meter.push(samples)
        return meter.result()

    found = stated.measurements.seams
    assert found.joins >= 20
    print(found, score(output, tuple(join + 1.6 for join in joins[:-1])))
    # The checks above allow 1.00 +- 0.05, or within three standard errors, about 0.04 for 23 joins.
    # Controls: the same file with its highs 6 dB down in every cross-fade, and cut for 20 ms.
    highs = filter_whole(output, highpass_kernel(0.9 * CUTOFF, CUTOFF, 48_000))
    for width, gain, name in ((0.32, 0.5, "level_ratio"), (0.02, 0.0, "flux_ratio")):
        dip = torch.zeros(output.shape[-1])
        for join in joins:
            first, last = (round((join + side * width / 2) * 48_000) for side in (-1, 1))
            dip[first:last] = gain - 1
        assert abs(getattr(score(output + dip * highs, joins), name) - 1) > 0.05


@pytest.mark.slow
def test_chunks_from_other_seeds_have_no_seams(engine, recording, tmp_path):
    """Every other chunk is another take, so that every join is one between two seeds."""
    given = {"seed": 1, "cutoff_hz": CUTOFF}
    plain = engine.run_inference(recording, tmp_path / "plain", **given)
    joins = read_metadata(plain.metadata).joins
    middles = [(start + stop) / 2 for start, stop in pairwise(joins)]
    takes = tuple((second, seed) for seed, second in enumerate(middles[::2], start=100))
    taken = engine.run_inference(recording, tmp_path / "taken", takes=takes, **given)
    stated = read_metadata(taken.metadata)
    assert stated.settings.takes == takes and stated.joins == joins
    found, before = stated.measurements.seams, read_metadata(plain.metadata).measurements.seams
    print(found, before)
    assert found.joins == before.joins >= 20
    assert not torch.equal(read_audio(taken.output), read_audio(plain.output))
    # Within 1.00 +- 0.05, or three standard errors.
    assert all(check.passed is not False for check in stated.checks())
