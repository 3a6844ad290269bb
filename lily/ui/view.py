"""Turn a finished run into the value that the player draws: sources, pictures, words, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lily.audio.mix import FORMATS, save_resampled
from lily.certify.metadata import read_metadata
from lily.evaluation.comparison import Comparison
from lily.inference.events import UpsampleResult
from lily.ui.mixes import GAIN_DB, Mixable
from lily.ui.overview import Overview, overview
from lily.ui.report import comparison_facts, facts, scores, segments_of, summary
from lily.ui.request import Request

NOTHING: dict[str, Any] = {"sources": []}
NO_SCORES: dict[str, Any] = {"caption": "", "columns": [], "rows": []}


@dataclass(frozen=True)
class Heard:
    """The files of a finished run that can be listened to, by key, and what is drawn of each.

    Keys are "input" (the recording at 48 kHz), "off" and "on" (the takes), and "reference".
    """

    files: Mapping[str, Path]
    overviews: Mapping[str, Overview]

    @property
    def takes(self) -> dict[str, Path]:
        """What was generated."""
        return {key: path for key, path in self.files.items() if key in ("off", "on")}


def listenable(
    request: Request,
    result: UpsampleResult,
    comparison: Comparison | None = None,
    before: tuple[Path, Overview] | None = None,
) -> Heard:
    """Collect a finished run's files and draw them; raises InputError as decoding does.

    ``before`` is the recording at 48 kHz with its overview, if the run has made them.
    """
    folder, seconds = result.output.parent, result.samples / result.sample_rate
    if comparison:
        made = comparison.result
        files = {"input": made.recording, "off": made.off.output, "on": made.on.output}
        files |= {"reference": comparison.reference}
    elif result.chunks:
        recording = before[0] if before else _copy(request, result)
        files = {"input": recording, "on" if result.encoder else "off": result.output}
    else:
        files = {"input": result.output}  # nothing was missing
    files = {key: path for key, path in files.items() if path}
    known = {"input": before[1]} if before and result.complete else {}
    overviews = known | {
        key: overview(path, seconds, folder / f"{key}.webp")
        for key, path in files.items()
        if key not in known
    }
    return Heard(files, overviews)


def _copy(request: Request, result: UpsampleResult) -> Path:
    """The recording as long and at the rate of the result."""
    copy = result.output.parent / f"{request.recording.stem}.input.wav"
    return save_resampled(request.recording, copy, result.sample_rate, result.samples)


def mixable(request: Request, heard: Heard) -> Mixable:
    """What the player's downloads are made of."""
    return Mixable(heard.files["input"], heard.takes, request.recording.stem)


def player_value(
    request: Request,
    result: UpsampleResult,
    heard: Heard,
    run: str,
    command: str,
    comparison: Comparison | None = None,
    job: str = "",
) -> dict[str, Any]:
    """What the player's JavaScript draws; ``run`` names the result for its downloads.

    Paths lie in Gradio's cache, where it serves them.
    """
    labels = _labels(heard)
    described = comparison_facts(comparison) if comparison else facts(result)
    stem = request.recording.stem
    return {
        "run": run,
        "job": job,
        "name": request.recording.name,
        "title": request.recording.name,
        "badge": "" if result.complete else "stopped early: the first part",
        "summary": summary(result, request.cutoff_hz),
        "seed": result.seed,
        "seconds": result.samples / result.sample_rate,
        "sources": [
            {
                "key": key,
                "label": labels[key],
                "path": str(path),
                "spectrum": str(heard.overviews[key].spectrum),
                "peaks": heard.overviews[key].peaks,
            }
            for key, path in heard.files.items()
        ],
        "cutoffs": segments_of(result, request.cutoff_hz),
        "chunks": _places(result) if len(heard.takes) == 1 else [],
        "takes": [list(take) for take in result.takes],
        "gain_db": list(GAIN_DB),
        "formats": [{"key": key, "label": label} for key, label in FORMATS.items()],
        "facts": described,
        "scores": scores(comparison) if comparison and comparison.distances else NO_SCORES,
        "files": _files(result, comparison, stem),
        "command": command,
    }


def _places(result: UpsampleResult) -> list[list[float]]:
    """Where each chunk is heard, [start, stop] in seconds; none if the result is not whole."""
    if not (result.complete and result.chunks and result.metadata):
        return []
    edges = [0.0, *read_metadata(result.metadata).joins, result.samples / result.sample_rate]
    return [[start, stop] for start, stop in pairwise(edges)]


def _labels(heard: Heard) -> dict[str, str]:
    if len(heard.takes) > 1:
        takes = {"off": "Encoder off", "on": "Encoder on"}
    else:
        takes = dict.fromkeys(heard.takes, "After")
    first = "Before" if heard.takes else "Recording"
    return {"input": first, **takes, "reference": "Reference"}


def _files(
    result: UpsampleResult, comparison: Comparison | None, stem: str
) -> list[dict[str, str]]:
    """Files to keep that are not a mix."""
    if comparison:
        named = [
            ("Difference of on and off (WAV)", comparison.result.difference, "lily.diff.wav"),
            ("Figures (JSON)", comparison.figures, "lily.json"),
        ]
    else:
        named = [] if result.chunks else [("48 kHz WAV", result.output, "lily.wav")]
        named += [("Figures (JSON)", result.metadata, "lily.json")] if result.metadata else []
    return [
        {"label": label, "path": str(path), "name": f"{stem}.{ending}"}
        for label, path, ending in named
    ]
