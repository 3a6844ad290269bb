"""Fit a model's tables ``inference.level_db`` and ``colour_db`` on its training recordings.

    python benchmarks/fit_levels.py FOLDER --preset lily-mini --split split.json

Recordings of the training part are low-passed and restored without a table. In every heard frame,
the mean log-mel between the cutoff and the recording's end is compared with the recording's; the
differences are fitted by least squares, linear between the levels of the recording's top that are
the table's columns. A colour is the mean difference over frames and recordings at each mel above
the cutoff, up to the highest, fitted likewise and less its own mean: a wall counts as well, so
that the distance falls. Prints the rows as they stand in a preset.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.config.presets import load_config
from lily.dsp.level import NEPER_DB, colour_places, level_places, top_level_db
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
COLOUR_RIDGE = 0.05
FEW_BINS = 5  # between the cutoff and the recording's end: fewer have no level


@dataclass(frozen=True)
class Errors:
    """What a restored recording lacks: its frames (L,), and mels (M,) above the cutoff, in dB."""

    top_db: Tensor  # (L,): level of the recording's top, above the floor
    level_db: Tensor  # (L,): mean over the mels between the cutoff and the recording's end
    colour_db: Tensor  # (M,): mean over the frames


def errors_of(
    reference: Tensor, low: Tensor, made: Tensor, cutoff_hz: float, mel: LogMel
) -> Errors | None:
    """Compare ``made`` with ``reference``, (C, T) at 48 kHz, in the frames that are heard.

    None for a reference that ends at the cutoff.
    """
    gain = PEAK / float(low.abs().max().clamp(min=1e-9))
    true, known, generated = (
        mel(gain * x.mean(0, keepdim=True))[0] for x in (reference, low, made)
    )
    hz = bin_centres_hz(mel)
    band = (hz > ABOVE * cutoff_hz) & (hz < min(TOP_HZ, Spectra(reference).end_hz))
    energy = (2 * true).exp().sum(1)
    heard = energy > energy.mean() * 10 ** (-HEARD_DB / 10)
    if int(band.sum()) < FEW_BINS or not heard.any():
        return None
    errors = (true - generated)[heard] * NEPER_DB
    level = top_level_db(known[heard], hz, cutoff_hz)
    return Errors(level, errors[:, band].mean(1), errors[:, hz > ABOVE * cutoff_hz].mean(0))


def fitted(shares: Sequence[Tensor], errors: Sequence[Tensor], ridge: float) -> Tensor:
    """Decibels (K,) at nodes of which ``errors`` (N,) have ``shares`` (N, K), by least squares.

    Every recording counts alike.
    """
    count = shares[0].shape[1]
    differences = torch.diff(torch.eye(count, dtype=torch.float64), dim=0)
    left = ridge * differences.T @ differences
    right = torch.zeros(count, dtype=torch.float64)
    for share, error in zip(shares, errors, strict=True):
        weight = 1 / (len(share) * len(shares))
        left += weight * share.double().T @ share.double()
        right += weight * share.double().T @ error.double()
    return torch.linalg.solve(left, right)


def chosen(folder: Path, split: Path, clips: int) -> list[Recording]:
    """The first ``clips`` recordings of each source of the training part."""
    training = set(json.loads(split.read_text())["training"])
    by_source: dict[str, list[Recording]] = {}
    for recording in find_recordings(folder):
        if recording.name in training:
            by_source.setdefault(recording.source, []).append(recording)
    return [recording for several in by_source.values() for recording in several[:clips]]


def rows(
    engine: InferenceEngine, references: Sequence[Tensor], cutoff_hz: float
) -> tuple[list[float], list[float]]:
    """The rows of a cutoff: dB at each of ``LEVELS_DB``, and at each place of a colour."""
    found: list[Errors] = []
    for index, reference in enumerate(references):
        degraded = degrade_for(Case("lowpass", cutoff_hz), reference, index)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "given.wav"
            write_audio(path, degraded.samples, SAMPLE_RATE)
            result = engine.run_inference(path, f"{folder}/out", seed=0, cutoff_hz=cutoff_hz)
            made = read_audio(result.output)
        errors = errors_of(reference, degraded.samples, made, cutoff_hz, engine.mel)
        if errors is not None:
            found.append(errors)
    if not found:
        raise SystemExit(f"No recording has anything above {cutoff_hz:g} Hz; give a lower cutoff.")
    shares = [level_places(e.top_db) for e in found]
    levels = fitted(shares, [e.level_db for e in found], RIDGE)
    hz = bin_centres_hz(engine.mel)
    places = colour_places(hz[hz > ABOVE * cutoff_hz], cutoff_hz, engine.mel.config.fmax)
    colours = [e.colour_db - e.colour_db.mean() for e in found]
    colour = fitted([places] * len(found), colours, COLOUR_RIDGE)
    return _rounded(levels), _rounded(colour)


def _rounded(decibels: Tensor) -> list[float]:
    return [round(2 * float(value)) / 2 for value in decibels]


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
    config["inference"] |= {"level_db": [], "colour_db": []}
    engine = InferenceEngine(config, "cpu")
    length = round(options.seconds * SAMPLE_RATE)
    recordings = chosen(options.folder, options.split, options.clips)
    references = [read_audio(one.path, SAMPLE_RATE)[:, :length] for one in recordings]
    fits = {round(hz): rows(engine, references, hz) for hz in options.cutoffs}
    print(f"level_db: {[[hz, levels] for hz, (levels, _) in fits.items()]}")
    print(f"colour_db: {[[hz, colour] for hz, (_, colour) in fits.items()]}")


if __name__ == "__main__":
    main()
