"""How honest the page's time left is: runs of recordings, traced and scored.

    python benchmarks/time_left.py recording.flac other.wav --encoder on --traces FOLDER

runs each recording as the page does, in one process, so that the first run loads the model and the
later ones know what it took; ``--cold`` forgets that between runs. Prints, for each, the share of
the run's duration after its first 5 s in which the time on show is within a factor of 1.5 of the
true one, or within the second that the page rounds to. A trace holds the run's events with their
times; ``replay`` scores a changed estimator on it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lily.checkpoints.resolve import BUNDLED, encoder_note
from lily.inference import events as engine_events
from lily.inference.zerogpu import engine_maker
from lily.ui.cache import Cache
from lily.ui.estimate import Estimate, Pace, TimeLeft
from lily.ui.models import made_ready, offered
from lily.ui.progress import Progress
from lily.ui.request import request_of
from lily.ui.run import Run
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.workload import Workload

SETTLING = 5.0  # seconds of a run that do not count
FACTOR = 1.5
RESOLUTION = 1.0  # seconds, of the time on show
STEP = 0.1  # seconds between looks at it
KEPT = ("Reading", "Analyzed", "ContextRead", "Planned", "Sampling", "ChunksDone", "Written")
FIELDS = ("seconds", "sample_rate", "channels", "cutoff_hz", "done", "chunks", "steps", "step")
FIELDS += ("variant", "total")
Trace = dict[str, Any]


class Recorder(Progress):
    """Progress that records every event with its time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[list[Any]] = []
        self.load_of_run: Workload | None = None
        self._inside = False

    def expect(self, estimate: Estimate) -> None:
        """Keep the workload."""
        self.load_of_run = estimate.load
        self._keep("expect", {})
        super().expect(estimate)

    def say(self, phase: str, text: str, share: float | None = None) -> None:
        """Keep the phase, unless it is the consequence of an event that is kept."""
        if not self._inside:
            self._keep("say", {"phase": phase})
        super().say(phase, text, share)

    def tell(self, event: engine_events.Event) -> None:
        """Keep an event of the engine."""
        name = type(event).__name__
        if name in KEPT:
            fields = {key: getattr(event, key) for key in FIELDS if hasattr(event, key)}
            self._keep(name, fields)
        self._inside = True
        try:
            super().tell(event)
        finally:
            self._inside = False

    def _keep(self, name: str, fields: dict[str, Any]) -> None:
        self.kept.append([round(self._clock(), 2), name, fields])


def record(run: Run, labels: list[str]) -> Trace:
    """Run to the end; returns the trace, its times from the run's start in seconds."""
    run.progress = recorder = Recorder(labels)
    began = time.monotonic()
    for _ in run.snapshots():
        continue
    assert recorder.load_of_run is not None
    events = [[round(at - began, 2), *rest] for at, *rest in recorder.kept]
    end = round(time.monotonic() - began, 2)
    return {"load": asdict(recorder.load_of_run), "labels": labels, "events": events, "end": end}


def replay(trace: Trace, pace: Pace) -> list[tuple[float, float | None]]:
    """What the page shows over a run: pairs of the time and the seconds left on show."""
    now = 0.0
    progress = Progress(trace["labels"], lambda: now)
    estimate = Estimate(pace, Workload(**trace["load"]), lambda: now)
    pairs, at, value = [], 0.0, progress.value()
    for then, name, fields in [*trace["events"], [trace["end"], "end", {}]]:
        while at < then:
            left, since = value["remaining"], at - now
            if left is not None:  # the page's JavaScript counts down between updates
                left = max(1.0, TimeLeft(left, value["next"], value["known"]).shown(since))
            pairs.append((at, left))
            at += STEP
        now = then
        if name == "expect":
            progress.expect(estimate)
        elif name == "say":
            progress.say(fields["phase"], "")
        elif name != "end":
            progress.tell(event_of(name, fields))
        value = progress.value()
    estimate.finish()
    return pairs


def event_of(name: str, fields: dict[str, Any]) -> Any:
    """The engine's event of a trace's line."""
    if name == "Analyzed":
        return engine_events.Analyzed("", full_band=False, **fields)
    if name == "Planned":
        return engine_events.Planned(**fields, sampler="", guidance=1.0, seed=0, encoder=True)
    if name == "Written":
        return engine_events.Written(**fields, files=(), blocks=())
    return getattr(engine_events, name)(**fields)


def honest_share(pairs: list[tuple[float, float | None]], end: float) -> float:
    """Share of the time after the first 5 s in which what was on show was right; 1.0 if none is."""
    late = [(left, end - at) for at, left in pairs if at >= SETTLING]
    right = [
        left is not None
        and (true / FACTOR <= left <= true * FACTOR or abs(left - true) <= RESOLUTION)
        for left, true in late
    ]
    return sum(right) / len(right) if right else 1.0


def main() -> None:
    """Run, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--encoder", choices=("on", "off", "both"), default="on")
    parser.add_argument("--cold", action="store_true", help="forget the runs before")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--traces", type=Path, help="folder to keep the traces in")
    options = parser.parse_args()
    models, _ = offered(BUNDLED)
    shelf = EngineShelf(models, engine_maker(), ready=made_ready, note=encoder_note)
    labels = {"on": ["encoder on"], "off": ["encoder off"], "both": ["encoder off", "encoder on"]}
    pace = Pace()
    for path in options.recordings:
        with tempfile.TemporaryDirectory() as folder:
            values = (options.steps, "", None, None, "", None)
            request = request_of(str(path.resolve()), BUNDLED, options.encoder, *values)
            run = Run(request, shelf, Cache(Path(folder), 3600.0, 1e10), Settings())
            trace = record(run, labels[options.encoder])
        pace = Pace() if options.cold else pace
        share = honest_share(replay(trace, pace), trace["end"])
        print(f"{path.name}: {trace['end']:.1f} s, {share:.0%} within a factor of {FACTOR}")
        if options.traces:
            name = f"{path.stem}.{options.encoder}.json"
            (options.traces / name).write_text(json.dumps(trace))


if __name__ == "__main__":
    main()
