"""Estimate how long a run still takes: all passes together, from runs before it and its own pace.

A pass costs compute seconds per second of audio and channel, loading the model costs seconds. What
runs on this server took is remembered by preset; until then the figures of lily-mini on two cores
serve. During a run, ``time_left`` scales everything that is still to come by how the part that is
done compares with its plan, recent parts more than old ones.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lily.ui.workload import Workload

PASSES = ("loading", "measuring", "reading", "preparing", "filling", "drawing")
LEARNING = 0.5  # weight of the newest run
INERTIA = 0.5  # seconds of the plan: less than this says little about the machine
PRIOR = 0.05  # what all other passes say of one, as a share of that pass
MEMORY = 1.0  # multiple of what is still to come: older parts count less, by 1/e
FIRST_STEP = 0.1  # share of a pass after which its first news is expected


@dataclass(frozen=True)
class Mark:
    """At a time in seconds a pass was this far, from 0 to 1."""

    at: float
    name: str
    share: float


@dataclass(frozen=True)
class TimeLeft:
    """Seconds left as of a mark, seconds to the next one, and how many seconds this rests on."""

    left: float
    upcoming: float
    known: float

    def shown(self, since: float) -> float:
        """Seconds left on show, ``since`` seconds after the mark.

        Counts down to the next mark. Where that is late, all that follows takes longer, in
        proportion to what the estimate rests on. ``widgets/chunk_map.js`` does the same.
        """
        if since <= self.upcoming:
            return self.left - since
        late = (since - self.upcoming) / max(self.known, 1.0)
        return (self.left - self.upcoming) * (1 + late)


def time_left(marks: Sequence[Mark], planned: Mapping[str, float]) -> TimeLeft:
    """Estimate a run as of its last mark.

    ``planned`` is what each pass was expected to take, in seconds. ``marks`` are in order; a pass
    that a mark skips took no time.
    """
    current, share = marks[-1].name, marks[-1].share
    rest = sum(planned[name] for name in PASSES[PASSES.index(current) + 1 :])
    own = (1 - share) * planned[current]
    slowness, known = _slowness(marks, planned, MEMORY * (own + rest))
    if current == "loading":
        step, slowness = 1 - share, 1.0
        if share:  # a download: its own pace alone counts
            own = (marks[-1].at - marks[0].at) * (1 - share) / share
    else:
        shares = [mark.share for mark in marks if mark.name == current]
        step = max(b - a for a, b in pairwise(shares)) if len(shares) > 1 else FIRST_STEP
        own *= slowness
    upcoming = own * min(1.0, step / (1 - share)) if share < 1 else 0.0
    return TimeLeft(own + slowness * rest, upcoming, known + upcoming)


def _slowness(
    marks: Sequence[Mark], planned: Mapping[str, float], memory: float
) -> tuple[float, float]:
    """What the run took so far as a multiple of its plan, and the seconds that counted.

    The last ``memory`` seconds count most: seconds of the plan, not of the clock, so that a slow
    machine is not forgotten sooner. A download counts for nothing. Load slows decoding and networks
    by different factors, so other passes are worth at most PRIOR of the pass that runs.
    """
    age = 0.0
    own, others = [0.0, 0.0], [INERTIA, INERTIA]  # seconds it took, and the plan's
    current = marks[-1].name
    downloads = any(mark.name == "loading" and mark.share > 0 for mark in marks)
    for before, after in reversed(list(pairwise(marks))):
        if downloads and before.name == "loading":
            break
        share = after.share if after.name == before.name else 1.0
        plan = (share - before.share) * planned[before.name]
        weight = math.exp(-age / (memory + INERTIA))
        counted = own if before.name == current else others
        counted[0] += weight * (after.at - before.at)
        counted[1] += weight * plan
        age += plan
    prior = min(others[1], max(INERTIA, PRIOR * planned[current]))
    took = own[0] + prior * others[0] / others[1]
    return took / (own[1] + prior), own[0] + others[0]


class Pace:
    """What passes have cost on this server; safe to use from several threads."""

    def __init__(self) -> None:
        self._factors: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def learn(self, preset: str, name: str, typical: float, rate: float) -> None:
        """Remember that a pass cost ``rate`` where ``typical`` is usual, in TYPICAL's units."""
        if typical <= 0:
            return
        with self._lock:
            before = self._factors.get((preset, name), rate / typical)
            self._factors[preset, name] = before + LEARNING * (rate / typical - before)

    def rate(self, preset: str, name: str, typical: float) -> float:
        """What a pass will cost where ``typical`` is usual."""
        with self._lock:
            return self._factors.get((preset, name), 1.0) * typical


@dataclass
class Estimate:
    """The passes of one run: feed it ``enter``, ask for ``time_left``."""

    pace: Pace
    load: Workload
    clock: Callable[[], float] = time.monotonic
    _marks: list[Mark] = field(default_factory=list)

    def enter(self, name: str, share: float = 0.0) -> None:
        """A pass begins, or is this far; passes only follow each other in order."""
        last = self._marks[-1] if self._marks else Mark(0.0, "", 0.0)
        later = PASSES.index(name) > (PASSES.index(last.name) if last.name else -1)
        if later or (name == last.name and min(share, 1.0) > last.share):
            self._marks.append(Mark(self.clock(), name, min(share, 1.0)))

    def planned(self, name: str) -> float:
        """Seconds that a pass was expected to take."""
        typical, amount = self.load.typical(name), self._amount(name)
        return self.pace.rate(self.load.preset, name, typical / amount) * amount if typical else 0.0

    def _amount(self, name: str) -> float:
        """What a pass's cost is proportional to: seconds of audio over all channels, or 1."""
        return 1.0 if name == "loading" else max(self.load.seconds * self.load.channels, 1e-9)

    def time_left(self) -> TimeLeft | None:
        """As of now; None before the first pass."""
        if not self._marks:
            return None
        as_of = time_left(self._marks, {name: self.planned(name) for name in PASSES})
        since = self.clock() - self._marks[-1].at
        left, upcoming = as_of.shown(since), max(0.0, as_of.upcoming - since)
        return TimeLeft(max(0.0, left), upcoming, as_of.known + max(0.0, since - as_of.upcoming))

    def finish(self) -> None:
        """The run is complete: remember what its passes took."""
        if not self._marks or self.load.seconds <= 0:
            return
        starts = [mark for i, mark in enumerate(self._marks) if _begins(self._marks, i)]
        ends = [*(mark.at for mark in starts[1:]), self.clock()]
        for mark, end in zip(starts, ends, strict=True):
            if typical := self.load.typical(mark.name):
                amount = self._amount(mark.name)
                rate = (end - mark.at) / amount
                self.pace.learn(self.load.preset, mark.name, typical / amount, rate)


def _begins(marks: Sequence[Mark], index: int) -> bool:
    return index == 0 or marks[index - 1].name != marks[index].name
