"""Tell what was done: a line of facts for the reader, figures for programs, the equivalent command.

Frequencies are in Hz for programs and kHz for the reader; times are in seconds.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lily.events import UpsampleResult
from lily.ui.progress import clock_time

_BITS = {"PCM_24": "24-bit", "FLOAT": "32-bit float"}


def facts(result: UpsampleResult) -> dict[str, Any]:
    """The line of facts under a player: a note, and pairs of name and text."""
    channels = {1: "mono", 2: "stereo"}.get(result.channels, f"{result.channels} channels")
    pairs = [
        ("Cutoff", f"{result.cutoff_hz / 1000:.1f} kHz"),
        ("Length", clock_time(result.seconds)),
        (
            "Output",
            f"{result.sample_rate / 1000:g} kHz, {_BITS.get(result.subtype, result.subtype)}, "
            f"{channels}",
        ),
    ]
    if result.chunks:
        pairs += [
            ("Chunks", str(result.chunks)),
            ("Time", clock_time(result.compute_seconds)),
            ("Real-time factor", f"{result.real_time_factor:.2g}"),
            ("Seed", str(result.seed)),
            ("Steps", f"{result.steps}, {result.sampler}, guidance {result.guidance:g}"),
            ("Model", result.model),
        ]
    return {"note": result.message, "facts": pairs}


def figures(result: UpsampleResult) -> dict[str, Any]:
    """The same facts for programs; the names are those of ``upsample --json``."""
    return {
        "output": result.output.name,
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "samples": result.samples,
        "seconds": result.seconds,
        "cutoff_hz": result.cutoff_hz,
        "chunks": result.chunks,
        "seed": result.seed,
        "steps": result.steps,
        "sampler": result.sampler,
        "guidance": result.guidance,
        "encoder": "on" if result.encoder else "off",
        "model": result.model,
        "real_time_factor": result.real_time_factor,
        "subtype": result.subtype,
        "message": result.message,
    }


def command(
    recording: Path,
    preset: str,
    cutoff_hz: float | None,
    results: Sequence[UpsampleResult],
    alone: bool,
) -> str:
    """The command lines that give the same samples, one a line; nothing is left to defaults.

    Unless ``alone``, results go to folders of their own: a name clash is an error there.
    """
    return "\n".join(_line(recording, preset, cutoff_hz, result, alone) for result in results)


def _line(
    recording: Path, preset: str, cutoff_hz: float | None, result: UpsampleResult, alone: bool
) -> str:
    encoder = "on" if result.encoder else "off"
    name = recording.name if not recording.name.startswith("-") else f"./{recording.name}"
    words = ["python", "-m", "lily", "upsample", name, "-o", "out" if alone else f"out/{encoder}"]
    words += ["--weights" if "/" in preset else "--preset", preset]  # a folder or a Hub id has one
    words += ["--encoder", encoder, "--steps", str(result.steps)]
    words += ["--sampler", result.sampler, "--guidance", f"{result.guidance:g}"]
    words += ["--seed", str(result.seed)]
    if cutoff_hz is not None:
        words += ["--cutoff", f"{cutoff_hz:g}"]
    return shlex.join(words)
