"""Where the distance above a cutoff lies: below each recording's own wall, or above it.

    python benchmarks/walls.py FOLDER --split split.json --limit 20

Above its wall a recording holds nothing, and where that wall is, nothing below the cutoff tells.
For each cutoff: the LSD-HF of the preset, encoder on; what it would be if the generated band ended
exactly at the wall; and the share of the bins and of the squared distance that lie above it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.cli.evaluate import _files
from lily.config.presets import load_config
from lily.evaluation.cases import degrade_for
from lily.evaluation.metrics import (
    SAMPLE_RATE,
    heard_frames,
    log_power,
    power_spectrum,
    split_bin,
)
from lily.evaluation.settings import Case
from lily.evaluation.spectra import EMPTY
from lily.inference.engine import InferenceEngine


def wall_bin(log: Tensor) -> int:
    """The first bin above which a recording's log power (F, L) is empty throughout."""
    occupied = (log.mean(1) > EMPTY).nonzero()
    return int(occupied.max()) + 1 if occupied.numel() else 0


def split_distance(reference: Tensor, made: Tensor, cutoff_hz: float) -> tuple[float, ...]:
    """LSD-HF, the same with what is above the wall right, and two shares above the wall."""
    power = power_spectrum(reference)
    heard, _ = heard_frames(power)
    log = log_power(power)[:, heard]
    square = (log - log_power(power_spectrum(made))[:, heard]).square()[split_bin(cutoff_hz) :]
    wall = max(0, wall_bin(log) - split_bin(cutoff_hz))
    told = square.clone()
    told[wall:] = 0
    distance, below = (float(part.mean(0).sqrt().mean()) for part in (square, told))
    return distance, below, 1 - wall / len(square), 1 - float(told.sum() / square.sum())


def fill(engine: InferenceEngine, reference: Tensor, case: Case, index: int) -> Tensor:
    """The recording, degraded as ``lily evaluate`` does it and filled in."""
    degraded = degrade_for(case, reference, index)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.wav"
        write_audio(path, degraded.samples, SAMPLE_RATE)
        made = engine.run_inference(path, f"{folder}/out", seed=0, cutoff_hz=degraded.cutoffs)
        return read_audio(made.output)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="full-band recordings")
    parser.add_argument("--preset", default="lily-mini")
    parser.add_argument("--split", type=Path, required=True, help="of the training run")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4_000, 8_000, 12_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = InferenceEngine(load_config(options.preset), "cpu")
    length = round(options.seconds * SAMPLE_RATE)
    references = [read_audio(path, SAMPLE_RATE)[:, :length] for path, *_ in _files(options)]
    print("| cutoff | LSD-HF | with the wall known | bins above it | squared distance above it |")
    print("|---|---|---|---|---|")
    for cutoff in options.cutoffs:
        case = Case("lowpass", cutoff)
        found = [
            split_distance(reference, fill(engine, reference, case, index), cutoff)
            for index, reference in enumerate(references)
        ]
        distance, known, bins, share = (fmean(column) for column in zip(*found, strict=True))
        print(f"| {cutoff:.0f} | {distance:.3f} | {known:.3f} | {bins:.0%} | {share:.0%} |")


if __name__ == "__main__":
    main()
