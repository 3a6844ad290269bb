"""Does the spread between draws foretell the error? Rank correlation over bands and times.

    python benchmarks/spread.py FOLDER --split split.json --limit 24 --cutoffs 4000 8000

restores excerpts that a split holds out from several seeds. A cell is 8 mels by 8 frames (80 ms)
above the cutoff, where the recording sounds; its level is the mean log-mel. Spread is the standard
deviation of a cell's level between the draws, error the absolute difference of a draw from the
original, in the mean over the draws. Prints Spearman's rank correlation of the two: over all cells,
and within an excerpt, in the mean; and as a yardstick that of the mean error of the cell's band
in the other excerpts, which needs no draws.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.cli.evaluate import _files
from lily.config.presets import load_config
from lily.dsp.mel import LogMel, bin_centres_hz
from lily.evaluation.cases import degrade_for
from lily.evaluation.metrics import SAMPLE_RATE
from lily.evaluation.settings import Case
from lily.inference.engine import InferenceEngine

CELL = 8  # mels, and frames of 10 ms
QUIET = 6.0  # natural log below the recording's loudest frame (52 dB): frames left out


def levels(mel: LogMel, samples: torch.Tensor) -> np.ndarray:
    """Mean log-mel of each cell (frames / CELL, mels / CELL) of mono samples (1, T)."""
    found = mel(samples)[0].numpy()
    frames, mels = (n // CELL * CELL for n in found.shape)
    cells = found[:frames, :mels].reshape(frames // CELL, CELL, mels // CELL, CELL)
    return cells.mean(axis=(1, 3))


def measure(
    engine: InferenceEngine, path: Path, cutoff_hz: float, options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread, error and band of the cells of one recording."""
    reference = read_audio(path)[:1, : round(options.seconds * SAMPLE_RATE)]
    degraded = degrade_for(Case("lowpass", cutoff_hz), reference, 0)
    mel = engine.runtime.mel
    made = []
    with tempfile.TemporaryDirectory() as folder:
        low = Path(folder) / "low.wav"
        write_audio(low, degraded.samples, SAMPLE_RATE)
        for seed in range(options.draws):
            result = engine.run_inference(
                low, Path(folder) / str(seed), seed=seed, cutoff_hz=cutoff_hz, steps=options.steps
            )
            made.append(levels(mel, read_audio(result.output)))
    draws, truth = np.stack(made), levels(mel, reference)
    lowest = bin_centres_hz(mel).numpy()[: truth.shape[1] * CELL : CELL]
    above = lowest > 1.05 * cutoff_hz
    loudness = levels(mel, degraded.samples)[:, lowest < 0.9 * cutoff_hz].max(axis=1)
    sounds = loudness > loudness.max() - QUIET
    chosen = np.ix_(sounds, above)
    spread = draws.std(axis=0, ddof=1)[chosen]
    error = np.abs(draws - truth).mean(axis=0)[chosen]
    return spread, error, np.broadcast_to(np.flatnonzero(above), spread.shape)


def rank(a: list[np.ndarray], b: list[np.ndarray]) -> tuple[float, float]:
    """Spearman's correlation over all cells, and its mean within an excerpt."""
    pairs = [(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True) if x.size > 2]
    whole = spearmanr(*(np.concatenate(part) for part in zip(*pairs, strict=True))).statistic
    return float(whole), float(np.mean([spearmanr(x, y).statistic for x, y in pairs]))


def by_band(errors: list[np.ndarray], bands: list[np.ndarray]) -> list[np.ndarray]:
    """For each excerpt's cells, the mean error of their band in the other excerpts."""
    found = []
    for index, own in enumerate(bands):
        others = [n for n in range(len(bands)) if n != index]
        band = np.concatenate([bands[n].ravel() for n in others])
        error = np.concatenate([errors[n].ravel() for n in others])
        size = own.max() + 1
        means = np.bincount(band, error, size) / np.maximum(1, np.bincount(band, minlength=size))
        found.append(means[own])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="full-band recordings")
    parser.add_argument("--split", type=Path, required=True, help="of the training run")
    parser.add_argument("--preset", default="lily-mini")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--temperature", type=float, help="of the noise (default: the preset's)")
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4_000.0, 8_000.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.preset)
    if options.temperature is not None:
        config["inference"] = {**config["inference"], "temperature": options.temperature}
    engine = InferenceEngine(config, "cpu")
    print("| cutoff | cells | all cells | within an excerpt | by band, without draws |")
    print("|---|---|---|---|---|")
    for cutoff_hz in options.cutoffs:
        found = [measure(engine, path, cutoff_hz, options) for path, _, _ in _files(options)]
        spreads, errors, bands = (list(part) for part in zip(*found, strict=True))
        whole, within = rank(spreads, errors)
        plain, _ = rank(by_band(errors, bands), errors)
        cells = sum(part.size for part in spreads)
        print(
            f"| {cutoff_hz / 1000:g} kHz | {cells} | {whole:.2f} | {within:.2f} | {plain:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
