"""Runs of a batch in this process, and what they leave."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

from lily.batch.plan import Request
from lily.batch.progress import Progress
from lily.batch.run import run
from lily.batch.work import ThisProcess
from lily.inference.options import UpsampleOptions as Options

OPTIONS = Options(seed=3, steps=1, cutoff_hz=4000.0)
RESULTS = {"one.wav", "a/two.wav", "a/b/three.wav", "c d/four.wav"}


class Killed(BaseException):
    """Raised in place of a SIGKILL: no handler of the batch catches it."""


def killed(*_, **__):
    raise Killed


def batch(engine, source, folder, tell=None, **changes) -> Progress:
    changes = {"options": OPTIONS, "model": "tiny", **changes}
    tell = (lambda progress, row: None) if tell is None else tell
    request = Request(str(source), str(folder), **changes)
    return run(request, lambda: nullcontext(ThisProcess(engine)), tell)


def rows(folder) -> dict[str, dict]:
    """The manifest's rows by file name; asserts that there is one for each input."""
    lines = (Path(folder) / "manifest.jsonl").read_text().splitlines()
    inputs = [json.loads(line)["input"] for line in lines]
    assert len(set(inputs)) == len(inputs), "more than one row for an input"
    return {Path(row["input"]).name: row for row in map(json.loads, lines)}


def results(folder) -> set[str]:
    found = Path(folder).rglob("*.wav")
    return {path.relative_to(folder).as_posix() for path in found if ".lily" not in path.parts}


def stamps(folder) -> dict[str, int]:
    return {name: (Path(folder) / name).stat().st_mtime_ns for name in results(folder)}
