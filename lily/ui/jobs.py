"""Remember what unfinished runs were asked, so that a browser that comes back can continue them.

A job is a small file in the cache folder under an unguessable name, which is all that the browser
keeps. It expires as everything there does; the run's finished chunks lie beside it
(lily/inference/resume.py).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lily.errors import InputError
from lily.inference.options import LAST_START
from lily.ui.cache import RUN_PREFIX, Cache

NAME = re.compile(r"[A-Za-z0-9_-]{16,32}")  # what token_urlsafe gives; never a path
FILE = "job.json"
EXPIRED = "This recording has expired on the server; drop it again to restore it."


def with_take(name: str, values: Sequence[Any], second: Any, seed: int) -> list[Any]:
    """The values of the job ``name`` with another seed for the chunk at ``second``.

    Raises InputError.
    """
    if type(second) not in (int, float) or not 0 <= second <= LAST_START:
        raise InputError(f"There is no chunk at {second!r} seconds.")
    *others, takes, chunks = values
    kept = [take for take in takes if take[0] != second]
    return [*others, [*kept, [float(second), seed]], chunks or name]


class Jobs:
    """Jobs by name, in the cache's folder."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def keep(self, values: Sequence[Any]) -> str:
        """Remember a request's values, those of ``lily.ui.request.request_of``; returns a name."""
        name = secrets.token_urlsafe(16)
        folder = self._folder(name)
        folder.mkdir(parents=True)
        (folder / FILE).write_text(json.dumps(list(values)), encoding="utf-8")
        return name

    def find(self, name: Any) -> list[Any]:
        """The values of a job; raises InputError if it or its recording has expired."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(EXPIRED)
        try:
            values = json.loads((self._folder(name) / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(EXPIRED) from error
        if not Path(values[0]).is_file():
            raise InputError(EXPIRED)
        return values

    def _folder(self, name: str) -> Path:
        return self._cache.folder / f"{RUN_PREFIX}job-{name}"
