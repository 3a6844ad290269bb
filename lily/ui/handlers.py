"""Translate between the page and a run: components in, updates out; no torch, no layout.

An error is shown twice: in the progress panel, where it stays, and as Gradio's message. A surprise
is logged with its traceback and shown as one calm line.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from lily.errors import LilyError
from lily.ui.answer import Answer
from lily.ui.controls import (
    Controls,
    encoder_choice,
    guidance_bounds,
    sampler_choices,
    seed_field,
    steps_bounds,
)
from lily.ui.progress import Progress
from lily.ui.report import figures
from lily.ui.request import NO_RECORDING, Request, request_of
from lily.ui.run import Run, Snapshot
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf

log = logging.getLogger(__name__)

SURPRISE = "Something went wrong that should not have; the server's log has the details."
Updates = dict[Any, Any]


class Handlers:
    """The page's event handlers, over one shelf of engines."""

    def __init__(
        self, shelf: EngineShelf, settings: Settings, controls: Controls, answer: Answer
    ) -> None:
        self._shelf = shelf
        self._settings = settings
        self._controls = controls
        self._answer = answer

    def change_preset(self, preset: str) -> Updates:
        """Give the widgets the numbers of another preset."""
        bounds, controls = self._shelf.bounds(preset), self._controls
        return {
            controls.steps: gr.update(**steps_bounds(bounds)),
            controls.seed: gr.update(**seed_field(bounds)),
            controls.guidance: gr.update(**guidance_bounds(bounds)),
            controls.sampler: gr.update(**sampler_choices(bounds)),
            controls.encoder: gr.update(**encoder_choice(self._shelf.encoder_note(preset))),
        }

    def check_encoder(self, preset: str) -> Updates:
        """Grey the encoder switch, with the reason, if the model has nothing to switch.

        A model that was downloaded since the page was built is known only now.
        """
        note = self._shelf.encoder_note(preset)
        update = gr.update(**encoder_choice(note)) if note else gr.skip()
        return {self._controls.encoder: update}

    def arm(self, recording: str | None) -> Iterator[Updates]:
        """Answer the click on Run at once, before the engine's queue does."""
        waiting = Snapshot(Progress([]).value())
        if not recording:
            yield self._ended(waiting.progress, "error", NO_RECORDING)
            raise gr.Error(NO_RECORDING, print_exception=False)
        yield self._answer.show(waiting, None) | self._buttons(running=True)

    def run(
        self,
        recording: str,
        preset: str,
        encoder: str,
        steps: float,
        seed: str,
        sampler: str,
        guidance: float,
        cutoff: str,
    ) -> Iterator[Updates]:
        """Run from the page: updates of the right column until the end or an error.

        Stop, or a browser that goes away, closes this generator, and with it the run.
        """
        last = Snapshot(Progress([]).value())
        shown = 0
        try:
            request = request_of(recording, preset, encoder, steps, seed, sampler, guidance, cutoff)
            with closing(self._follow(request, pictures=True)) as snapshots:
                for last in snapshots:
                    yield self._answer.show(last, shown)
                    shown = len(last.takes)
        except Exception as error:
            message = sentence(error)
            yield self._ended(last.progress, "error", message)
            # Gradio renders its messages as HTML, and a file's name may be anything.
            raise gr.Error(html.escape(message, quote=False), print_exception=False) from error
        yield self._answer.show(last, shown) | self._buttons(running=False)

    def stop(self, progress: dict[str, Any] | None) -> Updates:
        """Show that the run was ended; cancelling it is Gradio's doing."""
        return self._ended(_as_progress(progress), "stopped", "Stopped")

    def upsample(
        self,
        audio: str,
        preset: str | None = None,
        encoder: str = "on",
        steps: float | None = None,
        seed: float | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        cutoff: float | None = None,
    ) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Restore the missing top of a recording; the answer is a list of 48 kHz files and figures.

        encoder is on, off or both (two files, off first, from the same seed); steps, sampler and
        guidance default to the preset's own; without a seed one is drawn and told; cutoff is in
        Hz, detected unless given. While it runs, the figures hold only progress. The last ones
        hold, for every file: output, sample_rate, channels, samples, seconds, cutoff_hz, chunks,
        seed, steps, sampler, guidance, encoder, model, real_time_factor, subtype and message.
        """
        preset = preset or self._shelf.presets[0]
        try:
            request = request_of(audio, preset, encoder, steps, seed, sampler, guidance, cutoff)
            last = Snapshot({})
            with closing(self._follow(request, pictures=False)) as snapshots:
                for last in snapshots:
                    yield None, {"progress": last.progress}
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error
        files = [str(take.result.output) for take in last.takes]
        results = [figures(take.result) for take in last.takes]
        yield files, {"results": results, "command": last.command}

    def _follow(self, request: Request, pictures: bool) -> Generator[Snapshot, None, None]:
        """Run ``request`` inside Gradio's cache: files there are servable, and expire."""
        cache = Path(self._controls.recording.GRADIO_CACHE)
        limit = self._settings.max_seconds
        run = Run(request, self._shelf, cache, max_seconds=limit, pictures=pictures)
        yield from run.snapshots()

    def _buttons(self, running: bool) -> Updates:
        return {
            self._controls.run: gr.update(interactive=not running),
            self._controls.stop: gr.update(interactive=running),
        }

    def _ended(self, progress: dict[str, Any], phase: str, text: str) -> Updates:
        ended = {"phase": phase, "text": text, "running": False, "remaining": None}
        return {self._answer.progress: progress | ended} | self._buttons(running=False)


def _as_progress(value: Any) -> dict[str, Any]:
    """The progress a browser sent back, or a blank one: what a client sends may be anything."""
    blank = Progress([]).value()
    return value if isinstance(value, dict) and blank.keys() <= value.keys() else blank


def sentence(error: Exception) -> str:
    """What to tell a visitor; a surprise goes to the log whole."""
    if isinstance(error, LilyError):
        return str(error)
    log.error("A run ended in a surprise", exc_info=error)
    return SURPRISE
