"""Follow a run of the engine on a progress bar, up to its result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lily.inference.events import (
    Analyzed,
    ChunksDone,
    Compared,
    ContextRead,
    Finished,
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
            elif isinstance(event, Analyzed):
                bar.set_postfix_str(f"cutoff {event.cutoff_hz:.0f} Hz")
            elif isinstance(event, ContextRead):
                bar.set_postfix_str(f"reading the recording, {event.done:.0%}")
            elif isinstance(event, Planned):
                bar.reset(takes * len(event.chunks))
                bar.unit = "chunk"
                if event.memory is not None:
                    size = f"{event.memory / 2**30:.1f} GiB"  # libraries come on top
                    bar.write(f"{path.name}: tensors take up to {size}.", file=sys.stderr)
            elif isinstance(event, Sampling):
                bar.set_postfix_str(f"step {event.step}/{event.steps}")
            elif isinstance(event, ChunksDone):
                done[event.variant] = event.done
                bar.update(sum(done) - bar.n)
            elif isinstance(event, Finished | Compared):
                return event.result
    raise RuntimeError("the engine ended without a result")
