"""Say what went wrong in one sentence; unexpected errors are logged with their traceback."""

from __future__ import annotations

import logging

from lily.errors import LilyError

log = logging.getLogger(__name__)

MEMORY = (
    "There is not enough memory here for this run; give a shorter recording, fewer channels or a "
    "smaller model."
)
SURPRISE = "Something went wrong that should not have; the server's log has the details."


def sentence(error: Exception) -> str:
    """The message for a visitor; an unexpected error is logged with its traceback."""
    if isinstance(error, LilyError):
        return str(error)
    if _memory(error):
        log.error("A run ran out of memory: %s", error)
        return MEMORY
    log.error("A run ended in a surprise", exc_info=error)
    return SURPRISE


def _memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, a GPU's or, of torch on the CPU, an allocation failed."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's own class; no torch in here
    return isinstance(error, MemoryError) or named or "can't allocate memory" in str(error)
