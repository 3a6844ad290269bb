"""Run slow work beside a generator, so that the page can show what it tells and end it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

E = TypeVar("E")
T = TypeVar("T")
LOOK_SECONDS = 0.5  # how long the page may not hear from the work, nor the work from the page


class Cancelled(Exception):
    """Nobody waits for the work any more."""


def follow(work: Callable[[Callable[[E], None]], T]) -> Generator[E | None, None, T]:
    """Run ``work(tell)`` in a thread: yields what it tells, None while it is silent; its result.

    Raises what the work raises. Closing the generator ends the work the next time it tells, and
    waits until it has ended.
    """
    events: queue.Queue[E] = queue.Queue()
    cancelled = threading.Event()
    outcome: dict[str, Any] = {}

    def tell(event: E) -> None:
        if cancelled.is_set():
            raise Cancelled
        events.put(event)

    def run() -> None:
        try:
            outcome["result"] = work(tell)
        except BaseException as error:  # handed over below, whatever it is
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive() or not events.empty():
            try:
                event = events.get(timeout=LOOK_SECONDS if thread.is_alive() else 0)
            except queue.Empty:
                yield None
            else:
                yield event
    finally:
        cancelled.set()
        thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
