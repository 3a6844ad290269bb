"""Lily against kagayoi-audiosr 1.0.2: one machine, one recording, the same weights, alternating.

    python -m venv audiosr-env && audiosr-env/bin/pip install kagayoi-audiosr==1.0.2
    python benchmarks/random_weights.py weights
    python benchmarks/side_by_side.py --audiosr audiosr-env/bin/python --weights weights

A round runs AudioSR once at its command line's defaults, then Lily in each of ``CASES``; each in a
process of its own that has loaded its model before the clock starts, so that the two never hold
memory or threads at once. Ratios are of medians. The processor's seconds stand beside the clock's:
where others share the machine, only they compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from lily.evaluation.benchmark import machine, versions, write_recording

HERE = Path(__file__).resolve().parent
SECONDS = 5.12
STEPS, GUIDANCE, SEED = 50, 3.5, 42  # AudioSR's command line's defaults
# Lily's precision and the options of its run.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lily, defaults": ("auto", {}),
    "lily, defaults, float32": ("fp32", {}),
    "lily, AudioSR's profile, float32": ("fp32", {"profile": "audiosr", "encoder": False}),
}


def ask(command: list[str], request: dict[str, Any], threads: int) -> dict[str, Any]:
    """Start a worker, wait for its model, send one request and return the answer."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(HERE.parent) if "lily_worker" in command[1] else ""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        ready = json.loads(worker.stdout.readline())
        worker.stdin.write(json.dumps(request) + "\n")
        worker.stdin.close()
        return {**json.loads(worker.stdout.readline()), "worker": ready}


def median(rows: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of a system's rounds, and how many times faster than the reference they are."""
    middle = {key: statistics.median(row[key] for row in rows) for key in ("seconds", "cpu")}
    other = {key: statistics.median(row[key] for row in reference) for key in ("seconds", "cpu")}
    return {
        **{key: round(value, 2) for key, value in middle.items()},
        "times_faster": round(other["seconds"] / middle["seconds"], 2),
        "times_faster_cpu": round(other["cpu"] / middle["cpu"], 2),
        "stages": {name: round(value, 2) for name, value in rows[0]["stages"].items()},
        "calls": rows[0]["calls"],
        "worker": rows[0]["worker"],
    }


def main() -> None:
    """Run the rounds and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audiosr", required=True, help="the Python that has kagayoi-audiosr")
    parser.add_argument("--weights", type=Path, required=True, help="what random_weights.py wrote")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    weights, where = options.weights.resolve(), [str(options.threads), options.device]
    (weights / "noise.wav").unlink(missing_ok=True)  # of an earlier series
    recording = write_recording(weights / "noise.wav", SECONDS, 1)
    asked = {"input": str(recording), "seed": SEED}
    rows: dict[str, list[dict[str, Any]]] = {"audiosr": [], **{name: [] for name in CASES}}
    for _ in range(options.rounds):
        worker = str(HERE / "audiosr_worker.py")
        command = [options.audiosr, worker, str(weights / "audiosr.safetensors"), *where]
        request = {**asked, "output": str(weights), "steps": STEPS, "guidance": GUIDANCE}
        rows["audiosr"].append(ask(command, request, options.threads))
        for name, (precision, chosen) in CASES.items():
            worker = str(HERE / "lily_worker.py")
            command = [sys.executable, worker, str(weights / "audiosr-random"), *where]
            command += [precision, str(recording)]
            request = {**asked, "options": {"seed": SEED, **chosen}}
            rows[name].append(ask(command, request, options.threads))
    result = {name: median(taken, rows["audiosr"]) for name, taken in rows.items()}
    import torch

    facts = {"machine": machine(torch.device(options.device)), "versions": versions()}
    print(json.dumps({**facts, "seconds": SECONDS, "rounds": options.rounds, "systems": result}))


if __name__ == "__main__":
    main()
