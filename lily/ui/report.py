"""Tell what was done: a line of facts for the reader, figures for programs, the equivalent command.

Frequencies are in Hz for programs and kHz for the reader; times are in seconds.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from lily.certify.check import summary
from lily.evaluation.comparison import Comparison
from lily.inference.events import UpsampleResult
from lily.inference.options import format_cutoff, shortest
from lily.ui.progress import clock_time
from lily.ui.request import Request

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
    if result.diagnosis:
        pairs.append(("Found", result.diagnosis.text))
    if result.chunks:
        pairs += [
            ("Chunks", str(result.chunks)),
            ("Time", clock_time(result.compute_seconds)),
            ("Real-time factor", f"{result.real_time_factor:.2g}"),
            ("Seed", str(result.seed)),
            ("Steps", f"{result.steps}, {result.sampler}, guidance {result.guidance:g}"),
            ("Model", result.model),
        ]
    if result.checks:
        pairs.append(("Checks", summary(result.checks)))
    return {"note": result.message, "facts": pairs}


def scores(comparison: Comparison) -> dict[str, Any]:
    """The table of distances to the reference; no rows without one."""
    columns = ["", "LSD", "LSD-HF", "LSD-LF"]
    rows = [
        [f"Encoder {name}", f"{of.lsd:.3f}", f"{of.lsd_hf:.3f}", f"{of.lsd_lf:.3f}"]
        for name, of in comparison.distances.items()
    ]
    caption = (
        "Log-spectral distance to the reference: whole, above and below the cutoff; less is closer."
    )
    return {"caption": caption, "columns": columns, "rows": rows}


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """The line of facts under a comparison."""
    on = facts(comparison.result.on)
    difference = ("On differs from off by", f"{comparison.difference_db:.1f} dB of the highs")
    return {"note": on["note"], "facts": [difference, *on["facts"]]}


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
    if request.reference is not None:
        words += ["--reference", _argument(request.reference)]
    return shlex.join(words)


def _argument(path: Path) -> str:
    """A file's name; one that looks like an option is made to look like a file."""
    return path.name if not path.name.startswith("-") else f"./{path.name}"
