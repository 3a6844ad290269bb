"""Measure the figures of docs/clusters.md: ``python tests/batch/measure.py [NAME...]``.

Every figure is printed with what it was made of; the recordings are noise from a seed.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
from faults import (
    begin,
    differences,
    environment,
    finished,
    kill_a_worker,
    kill_driver_somewhen,
    make_tapes,
    rows,
    wait_for_rows,
)

PROCESSES = 20  # of the 200 that the loop would need; they take equally long
RAY = ("--ray", "--threads", "1", "--workers")


def seconds_of(*arguments: str | Path, threads: int = 1) -> float:
    """Duration of a run, from its start to its end."""
    began = time.perf_counter()
    code, said = finished(begin(*arguments, threads=threads))
    assert code == 0, said
    return time.perf_counter() - began


def reported_seconds(runs: list[tuple[str | Path, ...]]) -> float:
    """The longest duration of runs that begin at once, as they report it, without start-up."""
    said = [finished(run)[1] for run in [begin(*asked) for asked in runs]]
    return max(float(text.rsplit("h of audio in ", 1)[1].split(" s")[0]) for text in said)


def short(place: Path) -> None:
    """200 clips of 1 to 10 s: the batch, a loop of processes, one process file by file."""
    tapes = make_tapes(place / "in", 200, 1.0, 10.0)
    audio = sum(soundfile.info(path).duration for path in tapes.iterdir())
    together = seconds_of("batch", tapes, place / "batch", "--seed", "7", "--threads", "1")
    some = sorted(tapes.iterdir())[:PROCESSES]
    loop = sum(seconds_of("upsample", p, "-o", place / "loop", "--seed", "7") for p in some)
    loop *= 200 / PROCESSES
    began = time.perf_counter()
    names = sorted(tapes.iterdir())
    code, said = finished(begin("upsample", *names, "-o", place / "one", "--seed", "7"))
    assert code == 0, said
    alone = time.perf_counter() - began
    same = all(
        (place / "batch" / p.name).read_bytes() == p.read_bytes()
        for p in (place / "one").glob("*.wav")
    )
    print(
        f"short: {audio:.0f} s of audio; batch {together:.1f} s, engine file by file {alone:.1f} s"
    )
    print(f"short: loop {loop:.0f} s, from {PROCESSES} processes; same bits: {same}")
    print(f"short: {loop / together:.2f} x the loop, {alone / together:.2f} x file by file")


def reference(place: Path) -> list[str]:
    tapes = make_tapes(place / "in", 100, 0.5, 3.0)
    seconds_of("batch", tapes, place / "alone", "--seed", "7", "--threads", "1")
    return ["batch", str(tapes), str(place / "out"), "--seed", "7"]


def killed(place: Path) -> None:
    """100 files on two workers, one of them killed in the middle."""
    run = begin(*reference(place), *RAY, "2")
    wait_for_rows(place / "out", 50, run)
    kill_a_worker(run)
    code, said = finished(run)
    wrong = differences(place / "out", place / "alone", 100)
    print(f"killed: exit code {code}, differences: {wrong}; {said.strip().splitlines()[-1]}")


def driver(place: Path) -> None:
    """100 files, the driver killed at ten random moments, then left alone."""
    asked = reference(place)
    for ways in (("--threads", "1"), (*RAY, "2")):
        shutil.rmtree(place / "out", ignore_errors=True)
        kept = []
        for moment in range(10):
            run = begin(*asked, *ways)
            wait_for_rows(place / "out", len(rows(place / "out")) + 1, run)
            kill_driver_somewhen(run, 1.0, seed=random.Random(moment).randrange(1000))
            kept.append(len(rows(place / "out")))
        code, said = finished(begin(*asked, *ways))
        wrong = differences(place / "out", place / "alone", 100)
        print(f"driver {ways[0]}: killed at rows {kept}, exit code {code}, differences: {wrong}")


def memory(place: Path) -> None:
    """Peak memory of the driver for 100 and 10,000 empty files."""
    peaks = []
    for count in (100, 10_000):
        tapes = place / f"in{count}"
        tapes.mkdir()
        for n in range(count):
            (tapes / f"{n:05}.wav").touch()
        asked = ("batch", tapes, place / f"out{count}", "--threads", "1")
        command = [sys.executable, "-m", "lily", *map(str, asked)]
        run = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(run.pid, 0)
        peaks.append(usage.ru_maxrss / 1024)
        assert len(rows(place / f"out{count}")) == count
    print(f"memory: {peaks[0]:.0f} and {peaks[1]:.0f} MiB, {peaks[1] / peaks[0]:.3f} x")


def workers(place: Path) -> None:
    """The same 80 recordings on one worker and on two, as the runs report it."""
    tapes = make_tapes(place / "in", 80, 8.0, 12.0)
    took = []
    for count in (1, 2):
        out = place / f"out{count}"
        code, said = finished(begin("batch", tapes, out, "--seed", "7", *RAY, str(count)))
        assert code == 0, said
        took.append(float(said.rsplit("h of audio in ", 1)[1].split(" s")[0]))
    print(f"workers: {took[0]:.0f} s and {took[1]:.0f} s, {took[0] / took[1] / 2:.2f} efficient")
    # Without Ray: what two processes that share nothing reach on this machine.
    halves = [place / "left", place / "right"]
    for n, path in enumerate(sorted(tapes.iterdir())):
        halves[n % 2].mkdir(exist_ok=True)
        path.rename(halves[n % 2] / path.name)
    asked = [("batch", half, place / f"{half.name}-out", "--threads", "1") for half in halves]
    alone, both = (
        reported_seconds([asked[0]]),
        reported_seconds([(*a, "--overwrite") for a in asked]),
    )
    print(f"workers: two processes of no cluster, {alone / both:.2f} efficient")


MEASURES: dict[str, Callable[[Path], None]] = {
    measure.__name__: measure for measure in (short, killed, driver, memory, workers)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory(prefix="lily-measure-") as folder:
            MEASURES[name](Path(folder))
