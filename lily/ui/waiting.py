"""Tell a visitor who waits for the engine how many runs are before theirs, and for how long."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lily.ui.progress import clock_time
from lily.ui.shelf import EngineShelf

ENGINE = "engine"  # the concurrency group of all runs


class Waiting:
    """Find a visitor's place in Gradio's queue of runs."""

    page: gr.Blocks  # once it is built

    def __init__(self, shelf: EngineShelf) -> None:
        self._shelf = shelf

    def look(self, asked: Any) -> dict[str, str]:
        """A sentence for {visitor}, a session's name; empty if none of its runs is waiting."""
        visitor = asked.get("visitor") if isinstance(asked, dict) else None
        before = self._before(visitor) if isinstance(visitor, str) and visitor else 0
        return {"text": sentence(before, self._shelf.seconds_left()) if before else ""}

    def _before(self, visitor: str) -> int:
        """The number of runs that end before the visitor's begins; 0 if none of theirs waits."""
        # Gradio sends the place to its own pill only, with a time that ignores lengths.
        line = self.page._queue.event_queue_per_concurrency_id.get(ENGINE)
        waiting = [event.session_hash for event in list(line.queue)] if line else []
        return waiting.index(visitor) + line.current_concurrency if visitor in waiting else 0


def sentence(before: int, seconds_left: float | None) -> str:
    """The sentence for a visitor who waits; ``seconds_left`` are those of the run under way."""
    runs = "1 run" if before == 1 else f"{before} runs"
    text = f"Waiting: {runs} before yours"
    if seconds_left is None:
        return text
    left = max(1, round(seconds_left))
    about = f"about {left} s" if left < 60 else f"about {clock_time(left)} min"
    return f"{text}, {about}" if before == 1 else f"{text}; the first ends in {about}"
