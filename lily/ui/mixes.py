"""Keep finished results by an unguessable name, and render one of them at another mix.

A browser names a result, a take, a level and a format, never a path; every value
it sends is treated as arbitrary.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lily.audio.mix import ENDINGS, FORMATS, write_mix
from lily.errors import InputError, LilyError

log = logging.getLogger(__name__)

KEPT = 1000  # results; the files of older ones have most likely expired
FOLDER = "mixes"  # beside a result's own files, whose names may be anything
WAITING = 3  # mixes that are asked for at once; each holds one of the server's threads
MIXES = 6  # rendered files of one result; each is as large as a take
GAIN_DB = (-30, 12)  # what the level slider offers
DEPTHS = {"wav16": ".16bit", "wav32f": ".32bit"}  # what tells WAV files apart


@dataclass(frozen=True)
class Mixable:
    """The files of a result: the recording at 48 kHz and its takes by key, "off" or "on"."""

    recording: Path
    takes: Mapping[str, Path]
    stem: str  # of the downloads' names


class Mixes:
    """The results whose highs can be mixed; safe to use from several threads."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, Mixable] = OrderedDict()
        self._lock = threading.Lock()
        self._rendering = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING)

    def keep(self, result: Mixable) -> str:
        """Remember a result; returns its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._results[name] = result
            while len(self._results) > KEPT:
                self._results.popitem(last=False)
        return name

    def result(self, name: Any) -> Mixable:
        """The result of this name; raises InputError if it has expired."""
        with self._lock:
            result = self._results.get(str(name))
        if result is None or not result.recording.exists():
            raise InputError("This result has expired on the server; restore the recording again.")
        return result

    @staticmethod
    def _make_room(folder: Path) -> None:
        """Remove the oldest mixes of a result until another may be made."""
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
        result = self.result(asked.get("run"))
        name = str(asked.get("take"))
        take = result.takes.get(name)
        if take is None:
            raise InputError(f"Take is {asked.get('take')!r}; give {' or '.join(result.takes)}.")
        gain_db, kind = asked.get("gain_db"), str(asked.get("format"))
        whole = type(gain_db) in (int, float) and gain_db in range(GAIN_DB[0], GAIN_DB[1] + 1)
        if not whole:
            raise InputError(
                f"The level is {gain_db!r}; give whole dB from {GAIN_DB[0]} to {GAIN_DB[1]}."
            )
        if kind not in FORMATS:
            raise InputError(f"Format {kind!r} is not known; give {', '.join(FORMATS)}.")
        highs_only = asked.get("highs_only") is True
        stem = f"{result.stem}.lily"
        stem += f".{name}" if len(result.takes) > 1 else ""
        stem += ".highs" if highs_only else ""
        stem += f".{gain_db:+g}dB" if gain_db else ""
        folder = take.parent / FOLDER
        path = folder / f"{stem}{DEPTHS.get(kind, '')}.{ENDINGS[kind]}"
        if not self._places.acquire(blocking=False):
            raise InputError("Other mixes are being made; try again in a moment.")
        try:
            with self._rendering:  # one at a time: a mix reads and writes gigabytes
                if not path.exists():
                    folder.mkdir(exist_ok=True)
                    self._make_room(folder)
                    gain = 10 ** (gain_db / 20)
                    write_mix(result.recording, take, gain, path, kind, highs_only)
        finally:
            self._places.release()
        return {"path": str(path), "name": path.name}
