"""Show a result while it is generated: the recording's picture, which the result's replaces.

The sound is read from the engine's unfinished files, the picture is drawn from the samples as they
are written, every GROW_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lily.audio.mix import save_resampled
from lily.audio.read import read_blocks
from lily.inference.events import Analyzed, Planned, Written
from lily.ui.overview import Overview, OverviewMeter
from lily.ui.report import segments
from lily.ui.request import Request

GROW_SECONDS = 2.0  # between pictures: drawing one takes about 50 ms
RATE = 48_000  # Hz, of the outputs
KEYS = {False: ("on",), True: ("off", "on")}  # of the takes, by whether they are compared


class Growing:
    """The result of one run so far, as the player draws it."""

    def __init__(
        self, request: Request, folder: Path, job: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._request, self._folder, self._job, self._clock = request, folder, job, clock
        self._analyzed: Analyzed | None = None
        self._chunks: tuple[tuple[float, float], ...] = ()
        self._takes: list[OverviewMeter] = []
        self._drawn = -GROW_SECONDS
        self._written: Written | None = None
        self._version = 0
        self.before: tuple[Path, Overview] | None = None  # the recording at 48 kHz
        self.value: dict[str, Any] | None = None  # what the player shows; None: nothing yet

    def take(self, event: Any) -> None:
        """Take in one event of the engine; raises InputError as decoding does."""
        if isinstance(event, Analyzed):
            self._analyzed = event
        elif isinstance(event, Planned):
            self._chunks = event.chunks
            self._draw_before()
        elif isinstance(event, Written) and self.before:
            self._written = event
            for meter, block in zip(self._takes, event.blocks, strict=True):
                meter.push(block.numpy())
            if self._clock() - self._drawn >= GROW_SECONDS and event.seconds > 0:
                self._drawn = self._clock()
                self._draw(event)

    def _draw_before(self) -> None:
        """Save the recording at 48 kHz, and draw it."""
        assert self._analyzed is not None
        seconds = self._analyzed.seconds
        path = self._folder / f"{self._request.recording.stem}.before.wav"
        save_resampled(self._request.recording, path, RATE, round(seconds * RATE) + 1)
        self._base = OverviewMeter(RATE, seconds)
        for block in read_blocks(path):
            self._base.push(block.numpy())
        self.before = path, self._base.save(self._folder / "before.webp")
        self._takes = [OverviewMeter(RATE, seconds) for _ in KEYS[self._request.compares]]

    def _draw(self, event: Written) -> None:
        """Draw the takes as far as they are; the picture before is removed."""
        assert self._analyzed is not None and self.before is not None
        path, overview = self.before
        sources = [_source("input", "Before", path, overview)]
        keys = KEYS[self._request.compares]
        labels = ("Encoder off", "Encoder on") if len(keys) > 1 else ("After",)
        for key, label, meter, file in zip(keys, labels, self._takes, event.files, strict=True):
            image = self._folder / f"{key}.{self._version}.webp"
            (self._folder / f"{key}.{self._version - 2}.webp").unlink(missing_ok=True)
            sources.append(_source(key, label, file, meter.save(image, over=self._base)))
        self._version += 1
        name = self._request.recording.name
        found = self._analyzed
        self.value = {
            "run": "",
            "job": self._job,
            "growing": self._version,
            "filled": event.seconds,
            "frames": round(event.seconds * RATE),
            "name": name,
            "title": name,
            "badge": "being generated: the first part can be heard already",
            "summary": "",
            "seed": None,
            "seconds": found.seconds,
            "sources": sources,
            "cutoffs": segments(
                found.diagnosis, found.cutoff_hz, found.seconds, self._request.cutoff_hz
            ),
            "chunks": [list(chunk) for chunk in self._chunks],
            "gain_db": [0, 0],
            "formats": [],
            "facts": [],
            "scores": {"caption": "", "columns": [], "rows": []},
            "files": [],
            "command": "",
        }


def _source(key: str, label: str, path: Path, overview: Overview) -> dict[str, str]:
    return {
        "key": key,
        "label": label,
        "path": str(path),
        "spectrum": str(overview.spectrum),
        "peaks": overview.peaks,
    }
