"""The tables of docs/benchmarks.md in one command.

    python benchmarks/all.py OUT [--only NAME …] [--audiosr PYTHON --weights FOLDER]
        [--corpus FOLDER --split FILE]

Each part is one of the page's own commands. What it prints goes to ``OUT/NAME.json`` (a table in
Markdown to ``OUT/NAME.md``), its messages to ``OUT/NAME.log``, all tables to ``OUT/tables.md``. A
part that fails or lacks an input is reported in its place and stops no other; the exit code is 1 if
one failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POWERCAP = Path("/sys/class/powercap")  # Linux's counters of a processor's energy (RAPL)
NAMES = ("bench", "stereo", "growth", "side-by-side", "quality")


@dataclass(frozen=True)
class Part:
    """A command and what makes a table of its JSON; ``table`` None: it prints the table itself."""

    command: list[str]  # after the interpreter
    table: Callable[[dict[str, Any]], Iterator[str]] | None
    missing: str = ""  # what has to be given for it


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """Every part by its name."""
    bench = ["-m", "lily", "bench", "--json"]
    bench += ["--weights", str(options.model)] if options.model else []
    rounds = ["--rounds", str(options.rounds)]
    long = [*bench, *rounds, "--seconds", str(options.seconds)]
    growth = [*bench, "--rounds", "1", "--seconds", "5", "--no-start", "--growth"]
    beside = [str(HERE / "side_by_side.py"), *rounds]
    beside += ["--audiosr", str(options.audiosr), "--weights", str(options.weights)]
    quality = [str(HERE / "quality.py"), str(options.corpus), "--split", str(options.split)]
    quality += ["-o", str(options.out / "quality.png")]
    peers = "" if options.audiosr and options.weights else "--audiosr and --weights"
    recordings = "" if options.corpus and options.split else "--corpus and --split"
    return {
        "bench": Part(long, bench_table),
        "stereo": Part([*long, "--channels", "2", "--no-start"], bench_table),
        "growth": Part([*growth, *map(str, options.growth)], growth_table),
        "side-by-side": Part(beside, side_by_side_table, peers),
        "quality": Part(quality, None, recordings),
    }


def bench_table(facts: dict[str, Any]) -> Iterator[str]:
    """Seconds and shares of every stage, start-up, memory and the encoder's cost."""
    rounds = facts["rounds"]
    yield "| | " + " | ".join(f"encoder {name}" for name in rounds) + " |"
    yield "|---" * (len(rounds) + 1) + "|"
    figures = {
        "seconds": "{seconds}",
        "fastest round, seconds": "{fastest}",
        "CPU seconds": "{cpu_seconds}",
        "real-time factor": "{real_time_factor}",
        "outside the networks": "{outside_networks:.1%}",
    }
    for name, form in figures.items():
        yield f"| {name} | " + " | ".join(form.format(**row) for row in rounds.values()) + " |"
    for stage in next(iter(rounds.values()))["stages"]:
        cells = (f"{row['stages'][stage]} ({row['shares'][stage]:.1%})" for row in rounds.values())
        yield f"| {stage} | " + " | ".join(cells) + " |"
    yield ""
    if "encoder" in facts:
        cost = facts["encoder"]
        yield (
            f"Encoder on against off: {cost['time_overhead']:+.1%}, "
            f"of CPU time {cost['cpu_overhead']:+.1%}"
        )
    if "start" in facts:
        start = facts["start"]
        yield f"Start to finished file, {start['audio_seconds']:g} s: {start['seconds']} s"
    yield f"Peak memory: {facts['peak_memory_mib']} MiB"


def growth_table(facts: dict[str, Any]) -> Iterator[str]:
    """Compute time and peak memory over duration."""
    yield "| audio, s | seconds | CPU seconds | peak memory so far, MiB |"
    yield "|---|---|---|---|"
    for row in facts["growth"]["runs"]:
        figures = row["compute_seconds"], row["cpu_seconds"], row["peak_memory_mib"]
        yield f"| {row['seconds']:g} | " + " | ".join(map(str, figures)) + " |"
    growth = facts["growth"]
    yield f"\nExponent: {growth['exponent']}, of CPU time {growth['cpu_exponent']}"


def side_by_side_table(facts: dict[str, Any]) -> Iterator[str]:
    """Medians of each system."""
    yield "| system | seconds | times faster | by CPU seconds |"
    yield "|---|---|---|---|"
    for name, row in facts["systems"].items():
        figures = row["seconds"], row["times_faster"], row["times_faster_cpu"]
        yield f"| {name} | " + " | ".join(map(str, figures)) + " |"


def joules(powercap: Path) -> dict[str, tuple[int, int]]:
    """The microjoules of each processor so far, and where its counter starts over; may be empty."""
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:?")):  # subzones have two colons
        try:
            figures = [int((zone / f).read_text()) for f in ("energy_uj", "max_energy_range_uj")]
        except (OSError, ValueError):
            continue
        found[zone.name] = (figures[0], figures[1])
    return found


def energy(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    """The energy between two readings in words."""
    if not before or before.keys() != after.keys():
        return "not readable"
    used = sum((after[zone][0] - start) % (most + 1) for zone, (start, most) in before.items())
    return f"{used / 1e6:.0f} J, of all that the processor did meanwhile"


def run(name: str, part: Part, options: argparse.Namespace) -> tuple[bool, list[str]]:
    """Run a part; returns whether it failed, and its section in Markdown."""
    heading = [f"## {name}", ""]
    if part.missing:
        return False, [*heading, f"Not measured: give {part.missing}.", ""]
    heading += ["```bash", " ".join(["python", *part.command]), "```", ""]
    before = joules(options.powercap)
    with (options.out / f"{name}.log").open("w") as log:
        done = subprocess.run(
            [sys.executable, *part.command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=HERE.parent,
        )
    if done.returncode:
        return True, [*heading, f"Failed with exit code {done.returncode}: see {name}.log.", ""]
    output = options.out / f"{name}.{'json' if part.table else 'md'}"
    output.write_text(done.stdout)
    table = list(part.table(json.loads(done.stdout))) if part.table else [done.stdout]
    return False, [*heading, *table, f"Energy: {energy(before, joules(options.powercap))}", ""]


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="these parts")
    parser.add_argument("--model", type=Path, help="model folder (default: lily-mini)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0, help="of audio a round")
    parser.add_argument("--growth", type=float, nargs="+", default=[60, 900, 3600, 10800])
    parser.add_argument("--audiosr", help="the Python that has kagayoi-audiosr")
    parser.add_argument("--weights", type=Path, help="what random_weights.py wrote")
    parser.add_argument("--corpus", type=Path, help="full-band recordings")
    parser.add_argument("--split", type=Path, help="of the training run")
    parser.add_argument("--powercap", type=Path, default=POWERCAP, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    failed, text = False, ["# Benchmarks", ""]
    for name, part in parts(options).items():
        if name not in options.only:
            continue
        broken, section = run(name, part, options)
        failed, text = failed or broken, [*text, *section]
        (options.out / "tables.md").write_text("\n".join(text))
        print("\n".join(section), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
