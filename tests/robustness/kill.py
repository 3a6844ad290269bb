"""Kill a run at random moments, resume it, and compare with an uninterrupted run.

    python tests/robustness/kill.py /tmp/kill                           20 moments
    python tests/robustness/kill.py /tmp/kill --moments 5 --seed 1      others

A run is ``lily upsample`` with the bundled model, in a process that is forked after torch is
imported. It gets SIGKILL at a random moment: when a random number of its chunks is kept and up to
the time that a chunk takes has passed since. Then the same command runs with --resume. Exits with 1
unless output and metadata have the same bytes every time and nothing else is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2]))

import lily.inference.engine  # noqa: E402, F401  what a run imports, once
from lily.audio.temp_files import MIN_AGE_SECONDS  # noqa: E402
from lily.cli import main as lily_main  # noqa: E402

SECONDS, RATE = 20, 16_000  # of stereo: five chunks a channel of the bundled model
LOOK_EVERY = 0.005  # seconds


class Killing:
    """Runs of one recording in a folder."""

    def __init__(self, folder: Path, model: list[str], seconds: int = SECONDS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.recording = folder / "recording.wav"
        noise = 0.1 * np.random.default_rng(0).standard_normal((seconds * RATE, 2))
        soundfile.write(self.recording, noise, RATE)
        self.options = [*model, "--seed", "3", "--device", "cpu", "--json"]

    def start(self, out: Path, *more: str) -> int:
        """Begin the command in a process of its own; it writes to ``<out>.json`` and ``.log``."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            sys.stdout = open(f"{out}.json", "w")  # noqa: SIM115  until the process ends
            sys.stderr = open(f"{out}.log", "w")  # noqa: SIM115
            command = ["upsample", str(self.recording), "-o", str(out), *self.options, *more]
            code = lily_main(command)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kept(self, out: Path) -> int:
        """How many chunks of an unfinished run are kept."""
        return len(list(out.glob("*.part/*.chunk")))

    def uninterrupted(self) -> tuple[dict[str, bytes], int, float]:
        """What a whole run writes, its number of chunks, and the seconds that one takes."""
        pid, began = self.start(out := self.folder / "whole"), time.monotonic()
        _, status = os.waitpid(pid, 0)
        told = Path(f"{out}.json").read_text()
        assert status == 0, Path(f"{out}.log").read_text()
        chunks = json.loads(told)["chunks"]
        return written(out), chunks, (time.monotonic() - began) / chunks

    def killed(self, name: str, kept: int, after: float) -> tuple[bool, dict[str, bytes], dict]:
        """Kill a run ``after`` seconds from when ``kept`` chunks were kept, then resume.

        Returns whether it was still running, what the two wrote, and what the second told.
        """
        pid, ended = self.start(out := self.folder / name), False
        while self.kept(out) < kept and not ended:
            time.sleep(LOOK_EVERY)
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        if not ended:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)[1] != signal.SIGKILL
        running = not ended and not list(out.glob("*.json"))
        time.sleep(MIN_AGE_SECONDS)  # a younger temporary file is not taken for stale
        _, status = os.waitpid(self.start(out, "--resume"), 0)
        told = Path(f"{out}.json").read_text()
        assert status == 0, Path(f"{out}.log").read_text()
        return running, written(out), json.loads(told or "{}")


def written(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too; a folder in it has no content."""
    files = sorted(folder.iterdir())
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in files}


def measure(killing: Killing, moments: int, seed: int = 0) -> Iterator[tuple[str, int, str]]:
    """Kill at random moments; of each its description, the chunks kept, and what is wrong."""
    expected, chunks, seconds = killing.uninterrupted()
    draw = random.Random(seed)
    while moments:
        kept, after = draw.randrange(chunks), draw.uniform(0, seconds)
        running, made, told = killing.killed(f"killed {moments} {kept} {after:.3f}", kept, after)
        if not running:  # it ended before: another moment
            continue
        wrong = [] if made == expected else [f"{sorted(made)} differ"]
        moments -= 1
        yield f"{after:.2f} s after chunk {kept} of {chunks}", told["resumed"], ", ".join(wrong)


def main() -> int:
    """Kill, resume, compare and say so."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    killing = Killing(options.folder, ["--preset", "lily-mini"])
    identical = 0
    for moment, kept, wrong in measure(killing, options.moments, options.seed):
        identical += not wrong
        print(f"killed {moment}, {kept} chunks kept: {wrong or 'identical'}", flush=True)
    print(f"identical to the uninterrupted output: {identical} of {options.moments}")
    return int(identical < options.moments)


if __name__ == "__main__":
    sys.exit(main())
