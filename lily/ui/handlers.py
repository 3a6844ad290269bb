"""Translate between the page and a run: components in, updates out; no torch, no layout.

An error is shown in the progress panel, where it stays and covers nothing. A surprise is logged
with its traceback and shown as one calm line.
"""

from __future__ import annotations

import asyncio
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
    compare_choice,
    encoder_choice,
    guidance_bounds,
    recording_label,
    sampler_choices,
    seed_field,
    steps_bounds,
)
from lily.ui.estimate import Pace
from lily.ui.examples import example
from lily.ui.progress import Progress
from lily.ui.report import figures
from lily.ui.request import NO_RECORDING, Request, request_of
from lily.ui.run import Run, Snapshot
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf
from lily.ui.uses import cutoff_of

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
        self._pace = Pace()
        self._runs: dict[str, Run] = {}  # by the visitor's session

    def change_preset(
        self,
        preset: str,
    ) -> Updates:
        """Give the widgets the numbers of another preset."""
        bounds, controls = self._shelf.bounds(preset), self._controls
        note = self._shelf.encoder_note(preset)
        return {
            controls.steps: gr.update(**steps_bounds(bounds)),
            controls.seed: gr.update(**seed_field(bounds)),
            controls.guidance: gr.update(**guidance_bounds(bounds)),
            controls.sampler: gr.update(**sampler_choices(bounds)),
            controls.encoder: gr.update(**encoder_choice(note)),
            controls.compare: gr.update(**compare_choice(note)),
        }

    def check_encoder(self, preset: str) -> Updates:
        """Grey the encoder's switches, with the reason, if there is nothing to switch.

        A model that was downloaded since the page was built is known only now.
        """
        note, controls = self._shelf.encoder_note(preset), self._controls
        if not note:
            return dict.fromkeys(controls.comparable, gr.skip())
        return {
            controls.encoder: gr.update(**encoder_choice(note)),
            controls.compare: gr.update(**compare_choice(note)),
        }

    def choose_use(self, use: str) -> Updates:
        """Fill in the settings that suit a kind of recording."""
        return {self._controls.cutoff: cutoff_of(use)}

    def show_example(self, name: str) -> Updates:
        """Show a finished example; nothing is computed."""
        return {self._answer.player: example(name)}

    def name_recording(
        self,
        recording: str | None,
    ) -> Updates:
        """Show the recording's file name; without one there is nothing to restore.

        With one a run has begun, which enables Restore at its end.
        """
        name = Path(recording).name if recording else ""
        return {
            self._controls.recording: gr.update(label=recording_label(self._settings, name)),
            self._controls.restore: gr.skip() if name else gr.update(interactive=False),
        }

    def arm(
        self,
        recording: str | None,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Answer the click on Restore at once, before the engine's queue does."""
        self._runs.pop(_session(visitor), None)
        name = Path(recording).name if recording else ""
        blank = Progress([], recording=name).value()
        if not recording:
            yield self._ended(blank, "error", NO_RECORDING)
            raise gr.Error(NO_RECORDING, visible=False, print_exception=False)
        yield {self._answer.progress: blank} | self._running()

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
        compare: bool,
        reference: str | None,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Run from the page: updates of the answer until the end or an error.

        A comparison where it is asked for, or where a reference is given and there is an encoder to
        compare. Stop, or a browser that goes away, closes this generator, and with it the run.
        """
        compares = (compare or bool(reference)) and not self._shelf.encoder_note(preset)
        values = (recording, preset, "both" if compares else encoder, steps, seed)
        values += (sampler, guidance, cutoff, reference if compares else None)
        last = Progress([]).value()
        name = _session(visitor)
        try:
            run = self._run(request_of(*values), listened=True)
            self._runs[name] = run  # for ``stopped``, should this generator be closed
            with closing(run.snapshots()) as snapshots:
                for snapshot in snapshots:
                    last = snapshot.progress
                    yield self._answer.show(snapshot)
        except Exception as error:
            self._runs.pop(name, None)
            message = sentence(error)
            yield self._ended(last, "error", message)
            raise gr.Error(message, visible=False, print_exception=False) from error
        self._runs.pop(name, None)
        yield {self._answer.progress: last} | self.free()

    def stop(self, progress: dict[str, Any] | None) -> Updates:
        """Show that the run was ended; cancelling it is Gradio's doing."""
        return self._ended(_as_progress(progress), "stopped", "Stopped")

    async def stopped(
        self,
        progress: dict[str, Any] | None,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Updates:
        """Show the chunks that were finished when the visitor's run was stopped, if any were.

        Waits, without a thread, until the step has ended, or until the visitor has gone or gone on.
        The run's last event may reach the page after ``stop``, so this repeats that it ended.
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
                shown = self.stop(progress)
        except Exception as error:
            shown = self._ended(_as_progress(progress), "error", sentence(error))
        # Meanwhile the visitor may have started another run, whose place the panel is.
        return shown if self._runs.get(name) is run and self._runs.pop(name) else nothing

    def free(self) -> Updates:
        """Give the buttons back, all but Stop."""
        stop = self._controls.stop
        return {b: gr.update(interactive=b is not stop) for b in self._controls.buttons}

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
        guidance default to the preset's own; without a seed one is drawn and returned; cutoff is in
        Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on; it is detected unless
        given. While it runs, the figures hold only progress. The last ones
        hold, for every file: output, sample_rate, channels, samples, seconds, cutoff_hz, chunks,
        seed, steps, sampler, guidance, encoder, model, real_time_factor, subtype and message.
        """
        values = (encoder, steps, seed, sampler, guidance, cutoff)
        preset = preset or self._shelf.presets[0]
        for last in self._program(lambda: request_of(audio, preset, *values)):
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
        returned; cutoff is in Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on, and
        detected unless given; reference is the full-band original. The
        answer is a list of 48 kHz files (off, on, their difference, with a reference its aligned
        copy) and figures: the settings, difference_db of the whole and of every chunk (power of
        on - off against that of the generated band), and with a reference the log-spectral
        distances of both. While it runs, the figures hold only progress.
        """
        values = ("both", steps, seed, sampler, guidance, cutoff, reference)
        preset = preset or self._shelf.presets[0]
        for last in self._program(lambda: request_of(audio, preset, *values)):
            yield None, {"progress": last.progress}
        assert last.comparison is not None
        figures = comparison_figures(last.comparison) | {"command": last.command}
        yield [str(path) for path in last.comparison.files.values()], figures

    def _program(self, asked: Callable[[], Request]) -> Iterator[Snapshot]:
        """Run for a program, which gets an error in words."""
        try:
            with closing(self._run(asked(), listened=False).snapshots()) as snapshots:
                yield from snapshots
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    def _run(self, request: Request, listened: bool) -> Run:
        """A run inside Gradio's cache: files there are servable, and expire."""
        places = (self._shelf, self._cache, self._settings)
        return Run(request, *places, listened=listened, pace=self._pace)

    def _running(self) -> Updates:
        stop = self._controls.stop
        return {b: gr.update(interactive=b is stop) for b in self._controls.buttons}

    def _ended(self, progress: dict[str, Any], phase: str, text: str) -> Updates:
        ended = {"phase": phase, "text": text, "running": False, "remaining": None}
        return {self._answer.progress: progress | ended} | self.free()


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
