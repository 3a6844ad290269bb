"""Show a finished result to anyone who has its link, where the page's operator allows it.

A link names a result by its unguessable name and lasts as long as the result's files; nothing is
public before a visitor passes the link on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lily.errors import InputError
from lily.ui.mixes import Mixes

FILE = "shared.json"  # beside the result's own files, with which it expires
PARAMETER = "result"  # of the page's address
EXPIRED = "The result of this link has expired on the server."
OWN: dict[str, Any] = {"job": "", "chunks": [], "share": ""}  # what only its owner may continue


class Shares:
    """What the player shows of each result, by the result's name."""

    def __init__(self, mixes: Mixes) -> None:
        self._mixes = mixes

    def keep(self, run: str, value: dict[str, Any]) -> str:
        """Keep the player's value of a result; returns the query of its link."""
        self._file(run).write_text(json.dumps(value | OWN), encoding="utf-8")
        return f"?{PARAMETER}={run}"

    def find(self, run: str) -> dict[str, Any]:
        """The player's value of a result; raises InputError if it has expired."""
        try:
            return json.loads(self._file(run).read_text(encoding="utf-8"))
        except (InputError, OSError) as error:
            raise InputError(EXPIRED) from error

    def _file(self, run: str) -> Path:
        return self._mixes.result(run).recording.parent / FILE
