"""Describe a result: sentences and figures for the reader, figures for programs, the command.

Frequencies are in Hz for programs and kHz for the reader; times are in seconds.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from lily.bandwidth.diagnosis import Diagnosis
from lily.certify.check import LENGTH
from lily.certify.check import summary as summary_of
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.evaluation.comparison import Comparison
from lily.inference.events import UpsampleResult
from lily.inference.options import Segments, format_cutoff, format_takes, shortest
from lily.ui.progress import clock_time
from lily.ui.request import Request

_BITS = {"PCM_24": "24-bit", "FLOAT": "32-bit float"}


def segments_of(result: UpsampleResult, given: float | Segments | None = None) -> list[list[float]]:
    """Where highs were generated: [start, stop, cutoff] in seconds and Hz.

    ``given`` is the cutoff that the request named; otherwise what was detected counts.
    """
    if not result.chunks:
        return []
    end = result.samples / result.sample_rate
    return segments(result.diagnosis, result.cutoff_hz, end, given)


def segments(
    diagnosis: Diagnosis | None, cutoff_hz: float, end: float, given: float | Segments | None
) -> list[list[float]]:
    """Where highs are missing of a recording of ``end`` seconds, as ``segments_of`` has it."""
    pieces: Segments = ((0.0, cutoff_hz),)  # the lowest of any channel
    if isinstance(given, tuple):
        pieces = given
    elif given is None and diagnosis and diagnosis.kind == "changing" and not diagnosis.channels:
        pieces = diagnosis.segments
    stops = [start for start, _ in pieces[1:]] + [end]
    return [
        [round(start, 2), round(min(stop, end), 2), round(hz, 1)]
        for (start, hz), stop in zip(pieces, stops, strict=True)
        if hz < FULL_BAND_HZ and start < end
    ]


def summary(result: UpsampleResult, given: float | Segments | None = None) -> str:
    """The result in two sentences, between a message about the run and notes on format and peak.

    Of an unchanged recording the finding comes first, which ``facts`` have of others.
    """
    segments = segments_of(result, given)
    found = result.diagnosis.text if result.diagnosis and not result.chunks else ""
    sentences = [text for text in (found, result.message) if text]
    if segments and given is None and result.diagnosis and result.diagnosis.channels:
        sentences.append(
            "Highs were generated in each channel above its own end: plausible, not recovered. "
            "All else is untouched."
        )
    elif len(segments) == 1 and segments[0][0] == 0:
        cutoff = f"{segments[0][2] / 1000:.1f} kHz"
        sentences.append(
            f"Below {cutoff} the recording is untouched. Everything above was generated to "
            "fit it: plausible, not recovered."
        )
    elif segments:
        places = ", ".join(
            f"from {clock_time(start)} above {hz / 1000:.1f} kHz" for start, _, hz in segments
        )
        sentences.append(
            f"Highs were generated {places}: plausible, not recovered. All else is untouched."
        )
    return " ".join(filter(None, [*sentences, result.format_note, result.peak_note]))


def facts(result: UpsampleResult) -> list[tuple[str, str]]:
    """Names and texts of a result's figures."""
    channels = {1: "mono", 2: "stereo"}.get(result.channels, f"{result.channels} channels")
    pairs = [
        ("Length", clock_time(result.samples / result.sample_rate)),
        (
            "Output",
            f"{result.sample_rate / 1000:g} kHz, {_BITS.get(result.subtype, result.subtype)}, "
            f"{channels}",
        ),
    ]
    if result.chunks:
        pairs.insert(0, ("Lowest cutoff", f"{result.cutoff_hz / 1000:.1f} kHz"))
    if result.chunks:
        if result.diagnosis:
            pairs.append(("Found", result.diagnosis.text))
        pairs += [
            ("Chunks of about 5 s", str(result.chunks)),
            ("Time", clock_time(result.compute_seconds)),
            ("Speed", _speed(result.real_time_factor)),
            ("Seed", str(result.seed)),
            *([("Other takes", format_takes(result.takes))] if result.takes else []),
            ("Steps", f"{result.steps}, {result.sampler}, guidance {result.guidance:g}"),
            ("Model", result.model),
        ]
    if result.expectation:
        pairs.append(("The encoder", result.expectation))
    if result.context:
        pairs.append(("Borrowed", result.context.sentence))
    if result.checks:
        if result.complete:
            pairs.append(("Checks", summary_of(result.checks)))
        else:  # a part is shorter, as it should be
            of_part = [check for check in result.checks if check.label != LENGTH]
            pairs.append(("Checks of this part", summary_of(of_part)))
    return pairs


def _speed(real_time_factor: float) -> str:
    if real_time_factor <= 0:
        return "unknown"
    return f"{1 / real_time_factor:.2g} times as fast as it plays"


def scores(comparison: Comparison) -> dict[str, Any]:
    """The table of distances to the reference; no rows without one."""
    columns = ["", "LSD", "LSD-HF", "LSD-LF"]
    names = {"input": "Before", "off": "Encoder off", "on": "Encoder on"}
    rows = [
        [names[name], f"{of.lsd:.3f}", f"{of.lsd_hf:.3f}", f"{of.lsd_lf:.3f}"]
        for name, of in comparison.distances.items()
    ]
    caption = (
        "Log-spectral distance to the reference: whole, above and below the cutoff; less is closer."
    )
    if closest := _closest(comparison):
        caption = f"{closest} {caption}"
    return {"caption": caption, "columns": columns, "rows": rows}


def _closest(comparison: Comparison) -> str:
    """Which of before, off and on has the highs nearest to the reference's, in a sentence."""
    far = {name: of.lsd_hf for name, of in comparison.distances.items()}
    if "input" not in far:
        return ""
    best, better = min(far, key=far.__getitem__), "on" if far["on"] < far["off"] else "off"
    if best == "input":
        return "By this measure neither result is closer to the reference than the recording."
    if far["off"] < far["input"] and far["on"] < far["input"]:
        return (
            "Both results are closer to the reference than the recording; the one with the encoder "
            f"{better} is closest."
        )
    return f"With the encoder {better} the result is closer to the reference than the recording."


def comparison_facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Names and texts of a comparison's figures."""
    difference = f"{comparison.difference_db:.1f} dB of the highs"
    pairs = [("On differs from off by", difference)]
    if comparison.chunk_db:
        chunk = max(range(len(comparison.chunk_db)), key=comparison.chunk_db.__getitem__)
        start, stop = comparison.result.chunks[chunk]
        pairs.append(("They differ most", f"{clock_time(start)} to {clock_time(stop)}"))
    return pairs + facts(comparison.result.on)


def figures(result: UpsampleResult) -> dict[str, Any]:
    """The result for programs, as ``upsample --json`` has it; files are names, not paths."""
    values = result.to_dict()
    for key in ("output", "metadata"):
        values[key] = values[key] and Path(values[key]).name
    return values


def command(request: Request, result: UpsampleResult) -> str:
    """The command line that gives the same samples; nothing is left to defaults."""
    words = ["python", "-m", "lily", "compare" if request.compares else "upsample"]
    words += [_argument(request.recording), "-o", "out"]
    # A folder or a Hub id has a slash.
    words += ["--weights" if "/" in request.preset else "--preset", request.preset]
    if not request.compares:
        words += ["--encoder", "on" if result.encoder else "off"]
    words += ["--steps", str(result.steps), "--sampler", result.sampler]
    words += ["--guidance", shortest(result.guidance), "--seed", str(result.seed)]
    if request.cutoff_hz is not None:
        words += ["--cutoff", format_cutoff(request.cutoff_hz)]
    if request.takes:
        words += ["--takes", format_takes(request.takes)]
    if request.context_files:
        words += ["--context", *map(_argument, request.context_files)]
    if request.wall_hz is not None:
        words += ["--wall", shortest(request.wall_hz)]
    if request.brightness_db is not None:
        words.append(f"--brightness={shortest(request.brightness_db)}")  # may be negative
    if request.reference is not None:
        words += ["--reference", _argument(request.reference)]
    return shlex.join(words)


def _argument(path: Path) -> str:
    """A file's name; one that looks like an option is made to look like a file."""
    return path.name if not path.name.startswith("-") else f"./{path.name}"
