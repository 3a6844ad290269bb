"""Say how two takes of a comparison differ: chunk by chunk, in pictures, and against a reference.

A chunk's difference is the power of on - off above the cutoff against the mean power of both takes
there, in dB: -60 is as good as equal, 0 as far apart as the band is loud. Everything written is a
function of the takes alone, so that the same seed gives the same files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lily.audio.read import read_audio
from lily.audio.write import write_audio
from lily.evaluation.metrics import Distances
from lily.evaluation.reference import Reference
from lily.evaluation.spectrogram import FLOOR_DB, Picture, picture_of, save_difference, save_pair
from lily.inference.events import ComparisonResult

EQUAL_DB = -60.0  # lower limit of a reported difference


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, measured and drawn; distances only where there is a reference."""

    result: ComparisonResult
    chunk_db: tuple[float, ...]  # one a chunk
    difference_db: float  # of the whole recording
    pictures: tuple[Path, ...]  # off, on, difference; none where they were not asked for
    distances: Mapping[str, Distances]  # "input" if it was kept, "off" and "on"
    reference: Path | None  # the reference in step with the takes, at 48 kHz

    @property
    def files(self) -> dict[str, Path]:
        """The output files, by name."""
        kept = {
            "off": self.result.off.output,
            "on": self.result.on.output,
            "difference": self.result.difference,
        }
        return kept | ({"reference": self.reference} if self.reference else {})

    @property
    def figures(self) -> Path:
        """The JSON file beside the takes."""
        return _stemmed(self.result, "json")


def examine(
    result: ComparisonResult, reference: Reference | None = None, draw: bool = True
) -> Comparison:
    """Measure a comparison and, with ``draw``, draw it beside its files.

    Writes <stem>.json, with ``draw`` <stem>.off.png, .on.png and .diff.png, and with a reference
    its aligned copy.
    Existing files are overwritten: callers check before the run.
    """
    off, on, seconds = result.off, result.on, result.off.samples / result.off.sample_rate
    pictures = [picture_of(take, seconds) for take in (off.output, on.output, result.difference)]
    chunk_db, difference_db = _differences(result, *pictures)
    paths = _drawn(result, *pictures[:2]) if draw else ()
    measured = {}
    if reference:
        measured = {
            name: reference.distances(read_audio(take.output), take.cutoff_hz)
            for name, take in (("off", off), ("on", on))
        }
        if result.recording:
            recorded = read_audio(result.recording)
            measured = {"input": reference.distances(recorded, on.cutoff_hz), **measured}
    comparison = Comparison(
        result, chunk_db, difference_db, paths, measured, _written(reference, result)
    )
    text = json.dumps(figures(comparison), indent=2)
    comparison.figures.write_text(text + "\n", encoding="utf-8")
    return comparison


def _drawn(result: ComparisonResult, off: Picture, on: Picture) -> tuple[Path, ...]:
    files = (result.off.output, result.on.output, result.difference)
    paths = tuple(path.with_suffix(".png") for path in files)
    loudest = max(float(picture.levels_db.max()) for picture in (off, on))
    cutoff_hz = result.off.cutoff_hz
    save_pair((off, "Encoder off"), (on, "Encoder on"), cutoff_hz, paths[:2], top_db=loudest)
    save_difference(off, on, cutoff_hz, paths[2])
    return paths


def figures(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON: settings, files by name, differences, distances; no times."""
    result = comparison.result
    spans = zip(result.chunks, comparison.chunk_db, strict=True)
    found = {
        **result.to_dict(),
        "files": {name: path.name for name, path in comparison.files.items()},
        "difference_db": comparison.difference_db,
        "chunks": [
            {"start": round(start, 2), "stop": round(stop, 2), "difference_db": decibels}
            for (start, stop), decibels in spans
        ],
    }
    if comparison.distances:
        found["distances"] = {
            name: {
                key: None if value is None else round(value, 4) for key, value in asdict(of).items()
            }
            for name, of in comparison.distances.items()
        }
    return found


def _differences(
    result: ComparisonResult, off: Picture, on: Picture, difference: Picture
) -> tuple[tuple[float, ...], float]:
    """Decibels of every chunk and of the whole, from the columns of three pictures."""
    first = int(result.off.cutoff_hz / off.top_hz * (off.levels_db.shape[0] - 1))
    levels = [picture.levels_db[first:].astype(np.float64) for picture in (off, on, difference)]
    # Levels at the picture's floor count as zero, so silent chunks are equal in both takes.
    bands = [np.where(db > FLOOR_DB + 0.01, 10 ** (db / 10), 0.0).sum(axis=0) for db in levels]
    count = len(bands[0])
    centres = (np.arange(count) + 0.5) * off.seconds / count

    def decibels(chosen: np.ndarray) -> float:
        of_off, of_on, of_difference = (band[chosen].sum() for band in bands)
        of_both = 0.5 * (of_off + of_on)
        ratio = of_difference / of_both if of_both > 0 else 0.0
        return round(max(EQUAL_DB, 10 * float(np.log10(max(ratio, 1e-12)))), 1)

    found = []
    for start, stop in result.chunks:
        chosen = (centres >= start) & (centres < stop)
        chosen[min(count - 1, int((start + stop) / 2 / off.seconds * count))] = True
        found.append(decibels(chosen))
    return tuple(found), decibels(np.ones(count, bool))


def _written(reference: Reference | None, result: ComparisonResult) -> Path | None:
    if reference is None:
        return None
    path = _stemmed(result, "reference.wav")
    write_audio(path, reference.samples, result.off.sample_rate)
    return path


def _stemmed(result: ComparisonResult, ending: str) -> Path:
    stem = result.off.output.name.removesuffix(".off.wav")
    return result.off.output.with_name(f"{stem}.{ending}")
