"""Translate between the page and a run: components in, updates out; no torch, no layout.

An error is shown twice: in the progress panel, where it stays, and as Gradio's message. A surprise
is logged with its traceback and shown as one calm line.
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from lily.errors import LilyError
from lily.evaluation.comparison import figures as comparison_figures
from lily.ui.answer import Answer
from lily.ui.cache import Cache
from lily.ui.controls import (
    Controls,
    encoder_choice,
    guidance_bounds,
    nothing_to_compare,
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

LOOK_SECONDS = 0.1  # between looks at whether a run that was stopped has ended its step
MEMORY = (
    "There is not enough memory here for this run; give a shorter recording, fewer channels or a "
    "smaller model."
)
SURPRISE = "Something went wrong that should not have; the server's log has the details."
Updates = dict[Any, Any]


class Handlers:
    """The page's event handlers, over one shelf of engines."""

    def __init__(
        self,
        shelf: EngineShelf,
        settings: Settings,
        cache: Cache,
        controls: Controls,
        answer: Answer,
    ) -> None:
        self._shelf = shelf
        self._settings = settings
        self._cache = cache
        self._controls = controls
        self._answer = answer
        self._runs: dict[str, Run] = {}  # by the visitor's session

    def change_preset(
        self,
        preset: str,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Updates:
        """Give the widgets the numbers of another preset."""
        bounds, controls = self._shelf.bounds(preset), self._controls
        note = self._shelf.encoder_note(preset)
        idle = _session(visitor) not in self._runs
        return {
            controls.steps: gr.update(**steps_bounds(bounds)),
            controls.seed: gr.update(**seed_field(bounds)),
            controls.guidance: gr.update(**guidance_bounds(bounds)),
            controls.sampler: gr.update(**sampler_choices(bounds)),
            controls.encoder: gr.update(**encoder_choice(note)),
            controls.compare_note: gr.update(**nothing_to_compare(note)),
            controls.compare: gr.update(interactive=idle and not note),
        }

    def check_encoder(self, preset: str) -> Updates:
        """Grey the encoder switch and Compare, with the reason, if there is nothing to switch.

        A model that was downloaded since the page was built is known only now.
        """
        note, controls = self._shelf.encoder_note(preset), self._controls
        if not note:
            return dict.fromkeys(
                (controls.encoder, controls.compare_note, controls.compare), gr.skip()
            )
        return {
            controls.encoder: gr.update(**encoder_choice(note)),
            controls.compare_note: gr.update(**nothing_to_compare(note)),
            controls.compare: gr.update(interactive=False),
        }

    def choose(self, example: Path, preset: str) -> Updates:
        """Put an example into the question, with the task that a model can do with it."""
        controls = self._controls
        task = "upsample" if self._shelf.encoder_note(preset) else "compare"
        return {
            controls.recording: str(example),
            controls.cutoff: "",
            controls.reference: None,
            controls.tabs: gr.Tabs(selected=task),
        }

    def arm(
        self,
        recording: str | None,
        preset: str,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Answer the click on Run at once, before the engine's queue does."""
        self._runs.pop(_session(visitor), None)
        cleared = self._answer.clear()
        if not recording:
            progress = cleared[self._answer.progress]
            yield self._ended(progress, preset, "error", NO_RECORDING)
            raise gr.Error(NO_RECORDING, print_exception=False)
        yield cleared | self._running()

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
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Run from the page: updates of the right column until the end or an error.

        Stop, or a browser that goes away, closes this generator, and with it the run.
        """
        values = (recording, preset, encoder, steps, seed, sampler, guidance, cutoff)
        yield from self._page(lambda: request_of(*values), preset, visitor)

    def run_comparison(
        self,
        recording: str,
        preset: str,
        encoder: str,
        steps: float,
        seed: str,
        sampler: str,
        guidance: float,
        cutoff: str,
        reference: str | None,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Compare from the page: as ``run``, with the encoder off and on.

        Where there is nothing to compare, Compare is greyed; an example is upsampled then.
        """
        takes = encoder if self._shelf.encoder_note(preset) else "both"
        values = (recording, preset, takes, steps, seed, sampler, guidance, cutoff, reference)
        yield from self._page(lambda: request_of(*values), preset, visitor)

    def _page(
        self, asked: Callable[[], Request], preset: str, visitor: gr.Request | None
    ) -> Iterator[Updates]:
        last = Snapshot(Progress([]).value())
        name = _session(visitor)
        try:
            run = self._run(asked(), pictures=True)
            self._runs[name] = run  # for ``stopped``, should this generator be closed
            with closing(run.snapshots()) as snapshots:
                for last in snapshots:
                    yield self._answer.show(last)
        except Exception as error:
            self._runs.pop(name, None)
            message = sentence(error)
            yield self._ended(last.progress, preset, "error", message)
            # Gradio renders its messages as HTML, and a file's name may be anything.
            raise gr.Error(html.escape(message, quote=False), print_exception=False) from error
        self._runs.pop(name, None)
        yield {self._answer.progress: last.progress} | self.free(preset)

    def stop(self, progress: dict[str, Any] | None, preset: str) -> Updates:
        """Show that the run was ended; cancelling it is Gradio's doing."""
        return self._ended(_as_progress(progress), preset, "stopped", "Stopped")

    async def stopped(
        self,
        progress: dict[str, Any] | None,
        preset: str,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Updates:
        """Show the chunks that were finished when the visitor's run was stopped, if any were.

        Waits, without a thread, until the step has ended, or until the visitor has gone or gone on.
        What the run told last may reach the page after ``stop``, so this says again that it ended.
        """
        name = _session(visitor)
        nothing = {self._answer.progress: gr.skip()}
        run = self._runs.get(name)
        while run is not None and self._runs.get(name) is run and not run.ended.is_set():
            await asyncio.sleep(LOOK_SECONDS)
        if run is None or not run.ended.is_set():
            return nothing
        try:
            if run.made:
                shown = self._answer.show(await asyncio.to_thread(run.rest))
            else:
                shown = self.stop(progress, preset)
        except Exception as error:
            shown = self._ended(_as_progress(progress), preset, "error", sentence(error))
        # Meanwhile the visitor may have started another run, whose place the panel is.
        return shown if self._runs.get(name) is run and self._runs.pop(name) else nothing

    def free(self, preset: str) -> Updates:
        """Give the buttons back, all but Stop, and Compare where there is nothing to compare."""
        comparable = not self._shelf.encoder_note(preset)
        greyed = {self._controls.stop: False, self._controls.compare: comparable}
        return {
            button: gr.update(interactive=greyed.get(button, True))
            for button in self._controls.buttons
        }

    def leave(self, visitor: gr.Request = None) -> None:  # type: ignore[assignment]
        """Forget a visitor who has closed the page."""
        self._runs.pop(_session(visitor), None)

    def upsample(
        self,
        audio: str,
        preset: str | None = None,
        encoder: str = "on",
        steps: float | None = None,
        seed: float | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        cutoff: str | None = None,
    ) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Restore the missing top of a recording; the answer is a list of 48 kHz files and figures.

        encoder is on, off or both (two files, off first, from the same seed); steps, sampler and
        guidance default to the preset's own; without a seed one is drawn and told; cutoff is in
        Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on; it is detected unless
        given. While it runs, the figures hold only progress. The last ones
        hold, for every file: output, sample_rate, channels, samples, seconds, cutoff_hz, chunks,
        seed, steps, sampler, guidance, encoder, model, real_time_factor, subtype and message.
        """
        values = (encoder, steps, seed, sampler, guidance, cutoff)
        preset = preset or self._shelf.presets[0]
        for last in self._program(lambda: request_of(audio, preset, *values), pictures=False):
            yield None, {"progress": last.progress}
        results = [figures(take.result) for take in last.takes]
        files = [str(take.result.output) for take in last.takes]
        yield files, {"results": results, "command": last.command}

    def compare(
        self,
        audio: str,
        preset: str | None = None,
        steps: float | None = None,
        seed: float | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        cutoff: str | None = None,
        reference: str | None = None,
    ) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Fill a recording in with the encoder off and on, from the same noise, and compare them.

        steps, sampler and guidance default to the preset's own; without a seed one is drawn and
        told; cutoff is in Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on, and
        detected unless given; reference is the full-band original. The
        answer is a list of 48 kHz files (off, on, their difference, with a reference its aligned
        copy) and figures: the settings, difference_db of the whole and of every chunk (power of
        on - off against that of the generated band), and with a reference the log-spectral
        distances of both. While it runs, the figures hold only progress.
        """
        values = ("both", steps, seed, sampler, guidance, cutoff, reference)
        preset = preset or self._shelf.presets[0]
        for last in self._program(lambda: request_of(audio, preset, *values), pictures=True):
            yield None, {"progress": last.progress}
        assert last.comparison is not None
        told = comparison_figures(last.comparison) | {"command": last.command}
        yield [str(path) for path in last.comparison.files.values()], told

    def _program(self, asked: Callable[[], Request], pictures: bool) -> Iterator[Snapshot]:
        """Run for a program, which gets an error in words."""
        try:
            with closing(self._run(asked(), pictures).snapshots()) as snapshots:
                yield from snapshots
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    def _run(self, request: Request, pictures: bool) -> Run:
        """A run inside Gradio's cache: files there are servable, and expire."""
        return Run(request, self._shelf, self._cache, self._settings, pictures=pictures)

    def _running(self) -> Updates:
        stop = self._controls.stop
        return {b: gr.update(interactive=b is stop) for b in self._controls.buttons}

    def _ended(self, progress: dict[str, Any], preset: str, phase: str, text: str) -> Updates:
        ended = {"phase": phase, "text": text, "running": False, "remaining": None}
        return {self._answer.progress: progress | ended} | self.free(preset)


def _session(visitor: gr.Request | None) -> str:
    """The name of an open page; empty for a call from Python."""
    return getattr(visitor, "session_hash", None) or ""


def _as_progress(value: Any) -> dict[str, Any]:
    """The progress a browser sent back, or a blank one: what a client sends may be anything."""
    blank = Progress([]).value()
    return value if isinstance(value, dict) and blank.keys() <= value.keys() else blank


def sentence(error: Exception) -> str:
    """What to tell a visitor; a surprise goes to the log whole."""
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
