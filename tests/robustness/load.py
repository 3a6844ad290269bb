"""Ask the running app for much, valid and invalid mixed, one after another and all at once.

    python tests/robustness/load.py                                  200 and 32 requests
    python tests/robustness/load.py --sequential 20 --concurrent 8   fewer

Every answer is compared with what an engine in this process says of the same file: the same bytes,
or the same sentence. Prints the memory of the app before and after; exits with 1 if an answer is
wrong or missing, an error is no sentence, a temporary file outlives its time, or the memory goes
on growing.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ui"), str(HERE.parents[1])]

import httpx  # noqa: E402
import torch  # noqa: E402
from fuzz import complaint, tiny_folder  # noqa: E402
from live import PATIENCE, App, ask, file_data, running, until_empty, upload  # noqa: E402
from malformed import CONTAINERS, cases, whole  # noqa: E402

from lily.checkpoints.folder_config import read_folder_config  # noqa: E402
from lily.errors import LilyError  # noqa: E402
from lily.inference.engine import InferenceEngine  # noqa: E402

KEEP_SECONDS = 20  # how long the app keeps files in this test
# What the log must not hold: a surprise of ours, or an exception that is not Gradio's own refusal.
SURPRISE = re.compile(r".*surprise|(?!gradio\.exceptions)[\w.]+(Error|Exception)\b")
FLAT_MB = 15  # from a quarter of the way to its end; 0.1 MB for each of 200 would be over it
WARM = 12  # requests before memory is looked at: the model and the decoders are loaded by then


@dataclass(frozen=True)
class Question:
    """A file and settings, and what the answer must be: bytes of a WAV, or part of a sentence."""

    name: str
    data: bytes
    values: dict[str, Any]
    expected: bytes | str


@dataclass
class Report:
    """What happened."""

    asked: int = 0
    kinds: collections.Counter = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def questions(engine: InferenceEngine, folder: Path) -> Iterator[Question]:
    """Endless questions, valid and invalid in turn; each answer is worked out once."""
    valid = [
        (f"take{rate}.{ending}", whole(ending, channels, rate), {"seed": seed, "encoder": encoder})
        for seed, (ending, channels, rate, encoder) in enumerate(
            [
                ("wav", 1, 8_000, "on"),
                ("flac", 2, 16_000, "off"),
                ("m4a", 2, 44_100, "on"),
                ("ogg", 1, 22_050, "on"),
                ("webm", 1, 48_000, "off"),
                ("mp3", 2, 44_100, "on"),
            ]
        )
    ]
    broken = [
        (case.name, case.data, {"seed": 1}) for case in list(cases())[5 :: 7 * len(CONTAINERS) + 3]
    ]
    good = whole("wav", 1, 8_000)
    settings = [
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"cutoff": "0:4000,x"}, "no cutoff"),
        ({"cutoff": "30000"}, "cutoff"),
        ({"guidance": 1e9}, "guidance"),
        ({"sampler": "euler"}, "sampler"),
        ({"encoder": "maybe"}, "maybe"),
        ({"preset": "../../etc/passwd"}, "passwd"),
    ]
    odd = [("good.wav", good, values, text) for values, text in settings]
    told: dict[str, bytes | str] = {}
    streams = itertools.zip_longest(*(itertools.cycle(kind) for kind in (valid, broken, odd)))
    for number, triple in enumerate(streams):
        name, data, values, *sentence = triple[number % 3] if number % 2 else triple[0]
        key = f"{name} {values}"
        if key not in told:
            told[key] = sentence[0] if sentence else answer(engine, folder, name, data, values)
        yield Question(name, data, values, told[key])


def answer(
    engine: InferenceEngine, folder: Path, name: str, data: bytes, values: dict[str, Any]
) -> bytes | str:
    """What the engine makes of a file: the WAV's bytes, or the sentence that refuses it."""
    path = folder / name
    path.write_bytes(data)
    with tempfile.TemporaryDirectory() as out:
        options = values | {"encoder": values.get("encoder", "on") == "on"}
        try:
            return engine.run_inference(path, out, **options).output.read_bytes()
        except LilyError as error:
            return str(error)
        finally:
            path.unlink()


def put(app: App, question: Question) -> str:
    """Ask the app; returns what is wrong with its answer, or how it ended."""
    with httpx.Client(timeout=PATIENCE) as client:
        path = upload(client, app, question.name, question.data)
        kind, told = ask(client, app, "upsample", audio=file_data(path), **question.values)
        if kind == "error":
            text = told.get("error") if isinstance(told, dict) else str(told)
            if complaint(text or ""):
                return f"WRONG: {question.name}: {complaint(text or '')}"
            expected = question.expected
            same = isinstance(expected, str) and expected.lower() in text.lower()
            return "refused" if same else f"WRONG: {question.name} {question.values}: {text}"
        files, _ = told
        data = client.get(files[0]["url"]).content
    if data != question.expected:
        return f"WRONG: {question.name} {question.values}: not the engine's samples"
    return "filled"


def load(app: App, asked: Iterator[Question], sequential: int, concurrent: int) -> Report:
    """Put the questions; memory is looked at when warm, at every quarter and at the end."""
    report = Report()

    def note(told: str) -> None:
        report.asked += 1
        report.kinds[told.split(":")[0]] += 1
        if told.startswith("WRONG"):
            report.wrong.append(told)

    chosen = list(itertools.islice(asked, sequential + concurrent))
    quarters = {sequential * quarter // 4 for quarter in (1, 2, 3)}
    began = time.monotonic()
    for number, question in enumerate(chosen[:sequential]):
        if number == min(WARM, sequential // 4) or number in quarters:
            report.memory_mb.append(app.memory_mb())
        note(put(app, question))
    report.memory_mb.append(app.memory_mb())
    report.seconds["sequential"] = time.monotonic() - began
    began = time.monotonic()
    with ThreadPoolExecutor(concurrent) as pool:
        for told in pool.map(lambda question: put(app, question), chosen[sequential:]):
            note(told)
    report.memory_mb.append(app.memory_mb())
    report.seconds["concurrent"] = time.monotonic() - began
    return report


def measure(sequential: int, concurrent: int, folder: Path) -> tuple[Report, list[str], str]:
    """Start an app, load it; returns the report, the files it left and the surprises in its log."""
    torch.set_num_threads(1)
    model = tiny_folder(folder / "model")
    engine = InferenceEngine(read_folder_config(model), "cpu")
    limits = {"LILY_MODEL": str(model), "LILY_KEEP_SECONDS": str(KEEP_SECONDS)}
    # Two arenas for all of the server's threads: each thread would keep one of its own, some 10 MB,
    # once it has worked, which is no leak and hides one.
    limits |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "LILY_MAX_SECONDS": "60"}
    with running(folder, **limits) as app:
        report = load(app, questions(engine, folder), sequential, concurrent)
        left = until_empty(app.cache, 6 * KEEP_SECONDS)
        log = app.log.read_text()
    return report, left, "\n".join(filter(SURPRISE.match, log.splitlines()))


def main() -> int:
    """Load the app and print what happened."""
    parser = argparse.ArgumentParser(description="many requests, valid and invalid, to the app")
    parser.add_argument("--sequential", type=int, default=200)
    parser.add_argument("--concurrent", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report, left, surprises = measure(options.sequential, options.concurrent, Path(folder))
    print(f"{report.asked} answers: {dict(report.kinds)}")
    print("seconds:", {name: round(value) for name, value in report.seconds.items()})
    print("memory in MB, warm, at every quarter, at the end:", report.memory_mb)
    _, early, *_, late, _ = report.memory_mb
    grown = [f"memory grew by {late - early:.0f} MB"] if late - early > FLAT_MB else []
    print("temporary files left:", len(left))
    print(*report.wrong, *left, surprises, *grown, sep="\n")
    return 1 if report.wrong or left or surprises or grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
