"""Kill a run at random moments, let it go on, and compare with a run that nobody disturbed.

    python tests/robustness/kill.py /tmp/kill                 20 moments, of the bundled model
    python tests/robustness/kill.py /tmp/kill --moments 5 --seed 1      others

A run is ``python -m lily upsample``. It gets SIGKILL at a moment between the start of its first
pass and its end, then the same command with --resume. Exits with 1 unless the output, with its
certificate, has the same bytes every time and nothing else is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
SECONDS, RATE = 20, 16_000  # of stereo: five chunks a channel of the bundled model
LOOK_EVERY = 0.01  # seconds


class Killing:
    """Runs of one recording in a folder."""

    def __init__(self, folder: Path, model: list[str], seconds: int = SECONDS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.chunks = folder, folder / "chunks"
        self.recording = folder / "recording.wav"
        noise = 0.1 * np.random.default_rng(0).standard_normal((seconds * RATE, 2))
        soundfile.write(self.recording, noise, RATE)
        self.options = [*model, "--seed", "3", "--device", "cpu", "--json"]

    def start(self, out: Path, *more: str) -> subprocess.Popen:
        """The command, begun."""
        command = [sys.executable, "-m", "lily", "upsample", str(self.recording), "-o", str(out)]
        return subprocess.Popen(
            [*command, *self.options, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"LILY_CHUNKS": str(self.chunks)},
            cwd=ROOT,
        )

    def begun(self, child: subprocess.Popen) -> float:
        """Wait for pass 1: the decoder is the first child of the command; returns the moment."""
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        while child.poll() is None and not children.read_text():
            time.sleep(LOOK_EVERY)
        return time.monotonic()

    def undisturbed(self) -> tuple[dict[str, bytes], float]:
        """What a whole run writes, and how long it takes from its first pass on, in seconds."""
        child = self.start(out := self.folder / "whole")
        began = self.begun(child)
        _, said = child.communicate()
        assert child.returncode == 0, said.decode()
        return written(out), time.monotonic() - began

    def killed(self, name: str, after: float) -> tuple[bool, dict[str, bytes], dict]:
        """Kill a run ``after`` seconds, then resume.

        Returns whether it was still running, what the two wrote, and what the second told.
        """
        child = self.start(out := self.folder / name)
        self.begun(child)
        time.sleep(after)
        child.kill()
        child.communicate()
        running = child.returncode != 0 and not list(out.glob("*.certificate.json"))
        time.sleep(1.0)  # a file younger than that is not taken for a leftover
        done, said = self.start(out, "--resume").communicate()
        told = json.loads(done) if done else {}
        assert told or not running, said.decode()
        return running, written(out), told


def written(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def measure(killing: Killing, moments: int, seed: int = 0) -> Iterator[tuple[float, int, str]]:
    """Kill at random moments; of each the seconds, the chunks that were kept, and what is wrong."""
    expected, seconds = killing.undisturbed()
    draw = random.Random(seed)
    while moments:
        after = draw.uniform(0, seconds)
        name = f"killed {moments} {after:.3f}"
        running, made, told = killing.killed(name, after)
        if not running:  # it was faster than the undisturbed one
            continue
        wrong = [] if made == expected else [f"{sorted(made)} differ"]
        wrong += [str(path) for path in killing.chunks.glob("run-*")]
        moments -= 1
        yield after, told["resumed"], ", ".join(wrong)


def main() -> int:
    """Kill, resume, compare and say so."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    killing = Killing(options.folder, ["--preset", "lily-mini"])
    identical = 0
    for after, kept, wrong in measure(killing, options.moments, options.seed):
        identical += not wrong
        print(
            f"killed after {after:5.2f} s, {kept} chunks kept: {wrong or 'identical'}", flush=True
        )
    print(f"identical to the uninterrupted output: {identical} of {options.moments}")
    return int(identical < options.moments)


if __name__ == "__main__":
    sys.exit(main())
