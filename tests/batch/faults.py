"""What the fault tests and the figures of docs/clusters.md share: tapes, runs, and who to kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]


def make_tapes(folder: Path, count: int, shortest: float, longest: float) -> Path:
    """``count`` mono recordings at 16 kHz with lengths and noise from a seed."""
    random = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        seconds = random.uniform(shortest, longest)
        samples = 0.1 * random.standard_normal(round(seconds * 16_000))
        soundfile.write(folder / f"{n:05}.flac", samples, 16_000)
    return folder


def environment(threads: int = 1) -> dict[str, str]:
    """The environment of a run with so many threads, with this checkout in front."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}


def begin(*arguments: str | Path, threads: int = 1, **more: str) -> subprocess.Popen:
    """``python -m lily`` with these arguments, in a process group of its own."""
    command = [sys.executable, "-m", "lily", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**environment(threads), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen) -> tuple[int, str]:
    """A run's exit code and what it said."""
    _, said = process.communicate(timeout=600)
    return process.returncode, said


def rows(folder: Path) -> list[dict]:
    """The manifest, as far as it is written."""
    path = folder / "manifest.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_rows(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Until the manifest has so many rows, or the run is over."""
    while len(rows(folder)) < count and process.poll() is None:
        time.sleep(0.02)


def workers_of(process: subprocess.Popen) -> list[int]:
    """The ids of a run's Ray workers that are at work."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
            session = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[3])
        except OSError:  # it has ended meanwhile
            continue
        if title.startswith(b"ray::Worker.work") and session == os.getsid(process.pid):
            found.append(int(path.parent.name))
    return found


def kill_a_worker(process: subprocess.Popen) -> None:
    """SIGKILL for one of a run's Ray workers, as soon as one is at work."""
    while process.poll() is None:
        if victims := workers_of(process):
            os.kill(victims[0], signal.SIGKILL)
            return
        time.sleep(0.02)
    raise AssertionError("the run ended before a worker was killed")


def kill_driver_somewhen(process: subprocess.Popen, seconds: float, seed: int) -> None:
    """SIGKILL, at a moment within so many seconds."""
    time.sleep(random.Random(seed).uniform(0.0, seconds))
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def differences(folder: Path, reference: Path, count: int) -> list[str]:
    """What is missing, doubled, half or other than in the reference; empty if nothing is."""
    told = rows(folder)
    wrong = [f"{len(told)} rows for {count} files"] if len(told) != count else []
    wrong += [f"{row['input']}: {row['error']}" for row in told if row["status"] != "done"]
    if len({row["input"] for row in told}) != len(told):
        wrong.append("an input has two rows")
    names = {path.name for path in folder.glob("*.wav")}
    expected = {path.name for path in reference.glob("*.wav")}
    wrong += [f"{name}: missing or too many" for name in names ^ expected]
    wrong += [
        f"{name}: other bits"
        for name in names & expected
        if (folder / name).read_bytes() != (reference / name).read_bytes()
    ]
    wrong += [f"left over: {path}" for path in (folder / ".lily/work").glob("*")]
    return wrong
