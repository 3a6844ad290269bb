"""Start without Python's garbage collector, which visits every object of every module for nothing.

Modules live as long as the process. Collections while torch is imported, and one more at the
process's end, take a fifth of the time from start to finish of a short run. The collector belongs
to the process, so a library must not touch it; the command line may.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep what the block imports and builds out of all garbage collections, for good."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
