"""Follow a run of the engine on a progress bar, up to its result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lily.events import (
    ChunksDone,
    Compared,
    ContextRead,
    Finished,
    Measured,
    Planned,
    Reading,
    Sampling,
)


def follow(events: Iterator[Any], path: Path, takes: int = 1) -> Any:
    """Show what happens to ``path`` and return what the last event holds."""
    from tqdm import tqdm

    done = [0] * takes
    with tqdm(desc=path.name, unit="step", file=sys.stderr, disable=None, leave=False) as bar:
        for event in events:
            if isinstance(event, Reading):
                bar.set_postfix_str(f"reading, {event.seconds:.0f} s so far")
            elif isinstance(event, Measured):
                bar.set_postfix_str(f"cutoff {event.cutoff_hz:.0f} Hz")
            elif isinstance(event, ContextRead):
                bar.set_postfix_str(f"reading the recording, {event.done:.0%}")
            elif isinstance(event, Planned):
                bar.reset(takes * len(event.chunks))
                bar.unit = "chunk"
            elif isinstance(event, Sampling):
                bar.set_postfix_str(f"step {event.step}/{event.steps}")
            elif isinstance(event, ChunksDone):
                done[event.take] = event.done
                bar.update(sum(done) - bar.n)
            elif isinstance(event, Finished | Compared):
                return event.result
    raise RuntimeError("the engine ended without a result")
