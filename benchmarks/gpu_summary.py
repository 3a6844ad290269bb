"""Summarise a folder that gpu.sh filled: exit codes, speed, memory predicted against measured.

    python benchmarks/gpu_summary.py OUT

writes ``OUT/summary.json`` and ``OUT/summary.txt``. The exit code is 1 if a step failed. Needs no
other package: it has to work where the installation failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def summary(folder: Path) -> dict[str, Any]:
    """Each step's exit code and seconds, and the figures of the steps that printed JSON."""
    steps = {
        path.stem: {
            "exit": int(path.read_text()),
            "seconds": int(path.with_suffix(".seconds").read_text()),
        }
        for path in sorted(folder.glob("*.exit"), key=lambda path: path.stat().st_mtime_ns)
    }
    found = {name: folder / f"{name}.json" for name in steps}
    figures = {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}
    return {"steps": steps, "figures": figures}


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The summary in words."""
    figures = facts["figures"]
    for name, step in facts["steps"].items():
        ended = {0: "done", 124: "ran out of time"}.get(step["exit"], f"failed ({step['exit']})")
        yield f"{name}: {ended} after {step['seconds']} s"
    for name in ("bench-bf16", "bench-fp32"):
        if name not in figures:
            continue
        row = figures[name]
        seconds = row["audio"]["seconds"]
        for encoder, taken in row["rounds"].items():
            yield (
                f"{name}, encoder {encoder}: {seconds:g} s of audio in {taken['seconds']} s, "
                f"{1 / taken['real_time_factor']:.1f} times real time"
            )
        predicted, measured = row["predicted_mib"], row["peak_memory_mib"]
        kind = "process" if row["device"] == "cpu" else "tensors"
        yield f"{name}, memory of {kind}: predicted {predicted} MiB, measured {measured} MiB"
    for name, taken in figures.get("side-by-side", {}).get("systems", {}).items():
        yield f"{name}: {taken['seconds']} s, {taken['times_faster']} times as fast as AudioSR"


def main(folder: Path) -> int:
    """Write the summary and print it; 1 if a step failed."""
    facts = summary(folder)
    (folder / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    text = "\n".join(lines(facts)) + "\n"
    (folder / "summary.txt").write_text(text)
    sys.stdout.write(text)
    return int(any(step["exit"] for step in facts["steps"].values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
