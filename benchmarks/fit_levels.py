"""Fit a model's table of level corrections (``inference.level_db``) on its training recordings.

    python benchmarks/fit_levels.py FOLDER --preset lily-mini --split split.json

Recordings of the training part are low-passed and restored without a table. In every heard frame,
the mean log-mel above the cutoff is compared with the recording's; the differences are fitted by
least squares, linear between the levels of the recording's top that are the table's columns.
Prints the rows as they stand in a preset.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.config.presets import load_config
from lily.dsp.level import LEVELS_DB, NEPER_DB, top_level_db
from lily.dsp.mel import LogMel, bin_centres_hz
from lily.evaluation.cases import degrade_for
from lily.evaluation.metrics import SAMPLE_RATE
from lily.evaluation.settings import Case
from lily.evaluation.spectra import Spectra
from lily.inference.engine import InferenceEngine
from lily.training.recordings import Recording, find_recordings

PEAK = 0.5  # the level at which the engine hands recordings to the networks
ABOVE = 1.05  # x cutoff: where levels are compared
HEARD_DB = 50.0  # under the mean; quieter frames are left out
TOP_HZ = 20_000.0
RIDGE = 0.001  # of the squared difference of neighbours, against 1 for the squared errors
FEW_BINS = 5  # between the cutoff and the recording's end: fewer have no level


def frame_errors(
    reference: Tensor, low: Tensor, made: Tensor, cutoff_hz: float, mel: LogMel
) -> tuple[Tensor, Tensor]:
    """Level of the recording's top, and of ``reference`` over ``made`` above the cutoff, (L,) dB.

    Signals are (C, T) at 48 kHz; frames are those in which the reference is heard.
    """
    gain = PEAK / float(low.abs().max().clamp(min=1e-9))
    true, known, generated = (
        mel(gain * x.mean(0, keepdim=True))[0] for x in (reference, low, made)
    )
    hz = bin_centres_hz(mel)
    band = (hz > ABOVE * cutoff_hz) & (hz < min(TOP_HZ, Spectra(reference).end_hz))
    energy = (2 * true).exp().sum(1)
    heard = energy > energy.mean() * 10 ** (-HEARD_DB / 10)
    if int(band.sum()) < FEW_BINS:
        heard &= False
    errors = (true - generated)[:, band].mean(1) * NEPER_DB
    return top_level_db(known, hz, cutoff_hz)[heard], errors[heard]


def fitted(levels: Sequence[Tensor], errors: Sequence[Tensor]) -> Tensor:
    """Decibels at ``LEVELS_DB`` that leave the least squared error, every recording alike."""
    nodes = torch.tensor(LEVELS_DB, dtype=torch.float64)
    count = len(nodes)
    differences = torch.diff(torch.eye(count, dtype=torch.float64), dim=0)
    left = RIDGE * differences.T @ differences
    right = torch.zeros(count, dtype=torch.float64)
    for level, error in zip(levels, errors, strict=True):
        level = level.double().clamp(nodes[0], nodes[-1])
        upper = torch.searchsorted(nodes, level).clamp(min=1)
        share = (level - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1])
        hats = torch.zeros(len(level), count, dtype=torch.float64)
        hats.scatter_(1, upper[:, None], share[:, None])
        hats.scatter_(1, upper[:, None] - 1, 1 - share[:, None])
        weight = 1 / (len(level) * len(levels))
        left += weight * hats.T @ hats
        right += weight * hats.T @ error.double()
    return torch.linalg.solve(left, right)


def chosen(folder: Path, split: Path, clips: int) -> list[Recording]:
    """The first ``clips`` recordings of each source of the training part."""
    training = set(json.loads(split.read_text())["training"])
    by_source: dict[str, list[Recording]] = {}
    for recording in find_recordings(folder):
        if recording.name in training:
            by_source.setdefault(recording.source, []).append(recording)
    return [recording for several in by_source.values() for recording in several[:clips]]


def row(engine: InferenceEngine, references: Sequence[Tensor], cutoff_hz: float) -> list[float]:
    """The row of a cutoff: a correction in dB at each of ``LEVELS_DB``."""
    levels, errors = [], []
    for index, reference in enumerate(references):
        degraded = degrade_for(Case("lowpass", cutoff_hz), reference, index)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "given.wav"
            write_audio(path, degraded.samples, SAMPLE_RATE)
            result = engine.run_inference(path, f"{folder}/out", seed=0, cutoff_hz=cutoff_hz)
            made = read_audio(result.output)
        level, error = frame_errors(reference, degraded.samples, made, cutoff_hz, engine.mel)
        if len(level):
            levels.append(level)
            errors.append(error)
    return [round(2 * float(value)) / 2 for value in fitted(levels, errors)]


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="full-band recordings")
    parser.add_argument("--preset", default="lily-mini")
    parser.add_argument("--split", type=Path, required=True, help="of the training run")
    parser.add_argument("--clips", type=int, default=2, help="of each source")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cutoffs", type=float, nargs="+", default=[4_000, 8_000, 12_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.preset)
    config["inference"]["level_db"] = []
    engine = InferenceEngine(config, "cpu")
    length = round(options.seconds * SAMPLE_RATE)
    recordings = chosen(options.folder, options.split, options.clips)
    references = [read_audio(one.path, SAMPLE_RATE)[:, :length] for one in recordings]
    rows = [[round(hz), row(engine, references, hz)] for hz in options.cutoffs]
    print(f"level_db: {rows}")


if __name__ == "__main__":
    main()
