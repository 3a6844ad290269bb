"""Keep finished comparisons by an unguessable name, and render one of them at another mix.

A browser names a run, a take, a level and a format, never a path; whatever it sends is treated as
arbitrary.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from lily.audio.mix import ENDINGS, FORMATS, write_mix
from lily.errors import InputError, LilyError
from lily.inference.events import ComparisonResult

log = logging.getLogger(__name__)

KEPT = 100  # comparisons; the files of older ones have most likely expired
FOLDER = "mixes"  # beside a comparison's own files, whose names may be anything
WAITING = 3  # mixes that are asked for at once; each holds one of the server's threads
MIXES = 6  # rendered files of one comparison; each is as large as a take
GAIN_DB = (-30, 12)  # what the level slider offers


class Mixes:
    """The comparisons whose highs can be mixed."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, ComparisonResult] = OrderedDict()
        self._lock = threading.Lock()
        self._rendering = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING)

    def keep(self, result: ComparisonResult) -> str:
        """Remember a comparison with stems; returns its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._results[name] = result
            while len(self._results) > KEPT:
                self._results.popitem(last=False)
        return name

    @staticmethod
    def _make_room(folder: Path) -> None:
        """Remove the oldest mixes of a comparison until another may be made."""
        mixes = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in mixes[: max(0, len(mixes) - MIXES + 1)]:
            path.unlink(missing_ok=True)

    def mix(self, asked: Any) -> dict[str, str]:
        """Render {run, take, gain_db, format, highs_only}: a path and a file name, or an error."""
        try:
            return self._render(asked if isinstance(asked, dict) else {})
        except LilyError as error:
            return {"error": str(error)}
        except OSError:
            log.exception("A mix could not be written")
            return {"error": "The mix could not be written; the server's log has the details."}

    def _render(self, asked: dict[str, Any]) -> dict[str, str]:
        with self._lock:
            result = self._results.get(str(asked.get("run")))
        if result is None or result.low is None or not result.low.exists():
            raise InputError("This comparison is not kept any more; run it again.")
        take = {"off": result.off, "on": result.on}.get(str(asked.get("take")))
        if take is None:
            raise InputError(f"Take is {asked.get('take')!r}; give off or on.")
        gain_db, kind = asked.get("gain_db"), str(asked.get("format"))
        whole = type(gain_db) in (int, float) and gain_db in range(GAIN_DB[0], GAIN_DB[1] + 1)
        if not whole:
            raise InputError(
                f"The level is {gain_db!r}; give whole dB from {GAIN_DB[0]} to {GAIN_DB[1]}."
            )
        if kind not in FORMATS:
            raise InputError(f"Format {kind!r} is not known; give {', '.join(FORMATS)}.")
        highs_only = asked.get("highs_only") is True
        parts = [take.output.stem, *(["highs"] if highs_only else []), f"{gain_db:+g}dB"]
        stem = ".".join([*parts, *(["16bit"] if kind == "wav16" else [])])
        folder = take.output.parent / FOLDER
        path = folder / f"{stem}.{ENDINGS[kind]}"
        if not self._places.acquire(blocking=False):
            raise InputError("Other mixes are being made; try again in a moment.")
        try:
            with self._rendering:  # one at a time: a mix reads and writes gigabytes
                if not path.exists():
                    folder.mkdir(exist_ok=True)
                    self._make_room(folder)
                    write_mix(result.low, take.output, 10 ** (gain_db / 20), path, kind, highs_only)
        finally:
            self._places.release()
        return {"path": str(path), "name": path.name}
