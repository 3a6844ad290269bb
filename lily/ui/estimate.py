"""Estimate how long a run still takes: all passes together, from runs before it and its own pace.

A pass costs compute seconds per second of audio. What runs on this server took is remembered by
preset; until then the figures of lily-mini on two cores serve. During a run, everything that is
still to come is scaled by how the finished part compares with its estimate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PASSES = ("measuring", "reading", "preparing", "filling", "writing", "drawing")
# Compute seconds per second of audio; of filling, per evaluation of the U-Net.
TYPICAL = {"measuring": 0.01, "reading": 0.03, "preparing": 0.02, "filling": 0.1}
TYPICAL |= {"writing": 0.01, "drawing": 0.02}
LEARNING = 0.5  # weight of the newest run
INERTIA = 1.0  # seconds: passes shorter than this say little about the machine
TRUSTED = 0.3  # share of a pass from which its own pace counts alone


class Pace:
    """What passes have cost on this server; safe to use from several threads."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str, int], float] = {}
        self._lock = threading.Lock()

    def learn(self, preset: str, name: str, work: int, rate: float) -> None:
        """Remember that a pass took ``rate`` seconds per second of audio."""
        with self._lock:
            before = self._rates.get((preset, name, work), rate)
            self._rates[preset, name, work] = before + LEARNING * (rate - before)

    def rate(self, preset: str, name: str, work: int) -> float:
        """Seconds per second of audio that a pass will cost; ``work`` scales an unknown one."""
        with self._lock:
            known = {w: r for (p, n, w), r in self._rates.items() if (p, n) == (preset, name)}
        if work in known:
            return known[work]
        if known:
            nearest = min(known, key=lambda other: abs(other - work))
            return known[nearest] * work / nearest
        return TYPICAL[name] * work


@dataclass(frozen=True)
class Workload:
    """What a run will have to do: seconds of audio, and evaluations of the U-Net for each chunk."""

    preset: str
    seconds: float
    evaluations: int
    encoder: bool = True

    def work(self, name: str) -> int:
        """The multiples of a pass's rate that this run costs."""
        if name == "filling":
            return self.evaluations
        return int(self.encoder) if name == "reading" else 1


@dataclass
class Estimate:
    """The passes of one run: feed it ``enter`` and ``advance``, ask for ``remaining``."""

    pace: Pace
    load: Workload
    clock: Callable[[], float] = time.monotonic
    _current: int = -1
    _since: float = 0.0
    _share: float = 0.0
    _took: dict[str, float] = field(default_factory=dict)

    def enter(self, name: str, share: float = 0.0) -> None:
        """A pass begins, or is this far; passes only follow each other in order."""
        index, now = PASSES.index(name), self.clock()
        if index > self._current:
            if self._current >= 0:
                self._took[PASSES[self._current]] = now - self._since
            self._current, self._since, self._share = index, now, 0.0
        if index == self._current:
            self._share = max(self._share, min(share, 1.0))

    def planned(self, name: str) -> float:
        """Seconds that a pass was expected to take."""
        work = self.load.work(name)
        return self.pace.rate(self.load.preset, name, work) * self.load.seconds if work else 0.0

    def remaining(self) -> float | None:
        """Seconds to the end of the run; None before its first pass."""
        if self._current < 0:
            return None
        name, spent = PASSES[self._current], self.clock() - self._since
        expected = self.planned(name)
        done = sum(self._took.values()) + spent
        foreseen = sum(map(self.planned, self._took)) + self._share * expected
        scale = (done + INERTIA) / (foreseen + INERTIA) if self._share or self._took else 1.0
        left = max(scale * expected - spent, 0.1 * expected)
        if self._share > 0:
            own = spent * (1 - self._share) / self._share
            trust = min(1.0, self._share / TRUSTED)
            left = trust * own + (1 - trust) * left
        return left + scale * sum(map(self.planned, PASSES[self._current + 1 :]))

    def finish(self) -> None:
        """The run is complete: remember what its passes took."""
        if self._current < 0 or self.load.seconds <= 0:
            return
        self._took[PASSES[self._current]] = self.clock() - self._since
        for name, seconds in self._took.items():
            if work := self.load.work(name):
                self.pace.learn(self.load.preset, name, work, seconds / self.load.seconds)
