"""Pack the results of several recordings into one ZIP file."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from lily.errors import InputError, LilyError
from lily.ui.cache import Cache
from lily.ui.mixes import Mixable, Mixes
from lily.ui.widget import widget

log = logging.getLogger(__name__)

MOST = 200  # results in one archive
NAME = "lily.zip"


class Archive:
    """Packs results by their names."""

    def __init__(self, mixes: Mixes, cache: Cache) -> None:
        self._mixes, self._cache = mixes, cache

    def pack(self, asked: Any) -> dict[str, str]:
        """Pack {runs}: the path and name of a ZIP file, or an error in a sentence."""
        runs = asked.get("runs") if isinstance(asked, dict) else None
        try:
            if not isinstance(runs, list) or not 1 <= len(runs) <= MOST:
                raise InputError(f"Give 1 to {MOST} results to pack.")
            return self._write([self._mixes.result(run) for run in runs])
        except LilyError as error:
            return {"error": str(error)}
        except OSError:
            log.exception("An archive could not be written")
            return {"error": "The ZIP file could not be written; the server's log has the details."}

    def _write(self, results: list[Mixable]) -> dict[str, str]:
        files = list(_named(results))
        if not self._cache.has_room(sum(path.stat().st_size for path, _ in files)):
            raise InputError("There is no room for the ZIP file now; download the files singly.")
        folder = self._cache.new_folder()
        try:
            with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_STORED) as archive:
                for path, name in files:
                    archive.write(path, name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return {"path": str(folder / NAME), "name": NAME}


def _named(results: list[Mixable]) -> Iterator[tuple[Path, str]]:
    """Every result's files with names that differ."""
    taken: set[str] = set()
    for result in results:
        takes = result.takes or {"": result.recording}  # nothing was missing
        for key, path in takes.items():
            stem = f"{result.stem}.lily" + (f".{key}" if len(takes) > 1 else "")
            name, number = f"{stem}{path.suffix}", 1
            while name.lower() in taken:
                number += 1
                name = f"{stem}.{number}{path.suffix}"
            taken.add(name.lower())
            yield path, name


def queue_panel(archive: Archive) -> gr.HTML:
    """Build the list of several recordings, which is empty at first, in the current Blocks."""

    def pack(asked: Any) -> dict[str, str]:  # Gradio marks it, and a method cannot be marked
        return archive.pack(asked)

    return widget(
        "queue",
        {},
        scripts=("files",),
        label="Several recordings",
        elem_id="queue",
        server_functions=[pack],
    )
