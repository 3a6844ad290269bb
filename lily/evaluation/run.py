"""Degrade, fill in, compare: every recording of a folder, encoder on and off, beside the baselines.

The degradation is an 8th-order Butterworth low-pass run forwards and backwards, its cutoff given to
the engine. The baseline's tilt is fitted twice, on the even and on the odd recordings, and each fit
is judged on the other half, so that it never sees what it is measured on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from lily.dsp.audio import AudioWriter, read_audio
from lily.dsp.degrade import LowpassSpec, apply_lowpass
from lily.engine import InferenceEngine
from lily.evaluation.baselines import fit_tilt, shaped_noise
from lily.evaluation.metrics import SAMPLE_RATE, distances


@dataclass(frozen=True)
class Row:
    """One recording at one cutoff: LSD-HF of everything compared, and how far on is from off."""

    name: str
    cutoff_hz: float
    input: float
    noise: float
    off: float
    on: float
    difference_db: float  # power of on - off against the recording's


def evaluate(
    engine: InferenceEngine,
    files: Sequence[Path],
    cutoffs_hz: Sequence[float],
    *,
    seconds: float,
    seed: int = 0,
    steps: int | None = None,
) -> Iterator[Row]:
    """Compare the first ``seconds`` of every file at every cutoff; at least two files."""
    for cutoff in cutoffs_hz:
        references = [_excerpt(path, seconds) for path in files]
        tilts = [fit_tilt(references[1 - half :: 2], cutoff) for half in (0, 1)]
        for index, (path, reference) in enumerate(zip(files, references, strict=True)):
            low = apply_lowpass(reference, LowpassSpec("butter", 8, cutoff), SAMPLE_RATE)
            options = {"cutoff_hz": cutoff, "seed": seed, "steps": steps}
            off, on = (_filled(engine, low, encoder=e, **options) for e in (False, True))
            noise = shaped_noise(low, cutoff, tilts[index % 2], seed)
            scores = [distances(reference, x, cutoff).lsd_hf for x in (low, noise, off, on)]
            yield Row(path.name, cutoff, *scores, difference_db=_decibels(on - off, on))


def means(rows: Sequence[Row]) -> list[dict[str, float]]:
    """The mean of every column, a row per cutoff."""
    columns = ("input", "noise", "off", "on", "difference_db")
    table = []
    for cutoff in sorted({row.cutoff_hz for row in rows}):
        chosen = [row for row in rows if row.cutoff_hz == cutoff]
        averages = {c: round(fmean(getattr(row, c) for row in chosen), 3) for c in columns}
        table.append({"cutoff_hz": cutoff, "recordings": len(chosen), **averages})
    return table


def _excerpt(path: Path, seconds: float) -> Tensor:
    samples = read_audio(path, SAMPLE_RATE)
    return samples[:, : round(seconds * SAMPLE_RATE)]


def _filled(engine: InferenceEngine, low: Tensor, **options: object) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "low.wav"
        with AudioWriter(path, SAMPLE_RATE, low.shape[0]) as writer:
            writer.write(low)
        result = engine.run_inference(path, Path(folder) / "out", **options)
        return read_audio(result.output)


def _decibels(x: Tensor, reference: Tensor) -> float:
    ratio = x.double().square().mean() / reference.double().square().mean().clamp(min=1e-20)
    return float(10 * torch.log10(ratio.clamp(min=1e-12)))
