"""Measure how much memory an hour of stereo takes, against a minute of it.

    python tests/robustness/memory.py /tmp/hour                 3600 s against 60 s, one step
    python tests/robustness/memory.py /tmp/hour --seconds 600   ten minutes instead

Each runs in a process of its own with the bundled model. What counts is the largest resident sets
of that process and of its decoders, added up while they live. Exits with 1 if the long one takes
more than 1.2 times the short one. The folder gets the recordings (691 MB an hour) and the outputs,
which are removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2]))

from lily.dsp.filters import StreamingFir, lowpass_kernel  # noqa: E402

MOST = 1.2  # times a minute's
RATE, CUTOFF_HZ = 48_000, 8_000.0
LOOK_EVERY = 0.2  # seconds


def make_recording(path: Path, seconds: int) -> None:
    """Seeded noise in stereo with a wall at 8 kHz, swelling and fading every ten seconds."""
    import torch

    low_pass = StreamingFir(lowpass_kernel(0.97 * CUTOFF_HZ, 1.03 * CUTOFF_HZ, RATE))
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for second in range(0, seconds, 10):
            place = np.arange(RATE * min(10, seconds - second)) / RATE
            noise = generator.standard_normal((2, place.size)) * 0.1 * np.sin(np.pi * place / 10)
            file.write(low_pass.push(torch.from_numpy(noise.astype(np.float32))).T.numpy())
        file.write(low_pass.flush().T.numpy())


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(int(child))


def most_kb(pid: int) -> int:
    """The largest resident set that a process has had so far, in kB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def peak_mb(recording: Path, steps: int) -> tuple[float, dict]:
    """Fill a recording in; the memory it took in MB, and what the command says."""
    out = recording.with_suffix("")
    command = [sys.executable, "-m", "lily", "upsample", str(recording), "-o", str(out), "--json"]
    command += ["--steps", str(steps), "--seed", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        most = 0
        while child.poll() is None:
            most = max(most, sum(most_kb(pid) for pid in family(child.pid)))
            time.sleep(LOOK_EVERY)
        told = json.loads(child.stdout.read())
    assert child.returncode == 0 and told["samples"] == soundfile.info(recording).frames, told
    for path in out.iterdir():
        path.unlink()
    out.rmdir()
    return most / 1024, told


def main() -> int:
    """Measure both and say so."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for seconds in (60, options.seconds):
        recording = options.folder / f"{seconds} s.wav"
        make_recording(recording, seconds)
        megabytes, told = peak_mb(recording, options.steps)
        recording.unlink()
        print(
            f"{seconds} s of stereo: {megabytes:.0f} MB, {told['chunks']} chunks, "
            f"real-time factor {told['real_time_factor']:.2f}",
            flush=True,
        )
        figures.append(megabytes)
    ratio = figures[1] / figures[0]
    print(f"ratio {ratio:.3f}, at most {MOST}")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
