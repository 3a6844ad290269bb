"""Translate between the page and a run: components in, updates out; no torch, no layout.

An error is shown in the progress panel, where it stays and covers nothing. A surprise is logged
with its traceback and shown as one calm line.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from lily.errors import LilyError
from lily.ui.answer import Answer
from lily.ui.cache import Cache
from lily.ui.controls import (
    Controls,
    compare_choice,
    context_choice,
    encoder_choice,
    guidance_bounds,
    recording_label,
    sampler_choices,
    seed_field,
    steps_bounds,
)
from lily.ui.estimate import Pace
from lily.ui.examples import example
from lily.ui.jobs import EXPIRED, Jobs, with_take
from lily.ui.progress import Progress
from lily.ui.request import NO_RECORDING, Request, request_of
from lily.ui.run import Run
from lily.ui.sentences import sentence
from lily.ui.settings import Settings
from lily.ui.shares import PARAMETER
from lily.ui.shelf import EngineShelf
from lily.ui.uploads import is_upload
from lily.ui.uses import cutoff_of
from lily.ui.view import NOTHING

LOOK_SECONDS = 0.1  # between looks at whether a run that was stopped has ended its step
NOTHING_FINISHED = "Stopped before the first chunk was finished. Restore starts again."
SEEDS = 1000  # of takes: small numbers are easier to note down
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
        pace: Pace,
    ) -> None:
        self._shelf = shelf
        self._settings = settings
        self._cache = cache
        self._controls = controls
        self._answer = answer
        self._pace = pace
        self._jobs = Jobs(cache)
        self._runs: dict[str, Run] = {}  # by the visitor's session
        self.job = gr.State("")  # the job to continue

    def change_preset(
        self,
        preset: str,
    ) -> Updates:
        """Give the widgets the numbers of another preset."""
        return self._numbers(preset) | self._encoder_updates(preset)

    def _numbers(self, preset: str) -> Updates:
        bounds, controls = self._shelf.bounds(preset), self._controls
        return {
            controls.steps: gr.update(**steps_bounds(bounds)),
            controls.seed: gr.update(**seed_field(bounds)),
            controls.guidance: gr.update(**guidance_bounds(bounds)),
            controls.sampler: gr.update(**sampler_choices(bounds)),
        }

    def _encoder_updates(self, preset: str) -> Updates:
        """Grey what does nothing with the preset's encoder, with the reason."""
        note, controls = self._shelf.encoder_note(preset), self._controls
        return {
            controls.encoder: gr.update(**encoder_choice(note)),
            controls.compare: gr.update(**compare_choice(note)),
            controls.context: gr.update(**context_choice(self._shelf.context_note(preset))),
        }

    def check_encoder(self, preset: str) -> Updates:
        """Grey the encoder's switches, with the reason, if there is nothing to switch.

        A model that was downloaded since the page was built is known only now.
        """
        if not self._shelf.encoder_note(preset):
            return dict.fromkeys(self._controls.comparable, gr.skip())
        return self._encoder_updates(preset)

    def choose_use(self, use: str) -> Updates:
        """Fill in the settings that suit a kind of recording."""
        return {self._controls.cutoff: cutoff_of(use)}

    def show_example(self, name: str) -> Updates:
        """Show a finished example; nothing is computed."""
        return {self._answer.player: example(name)}

    def show_shared(self, visitor: gr.Request) -> Updates:
        """Show the result that the page's address names, if it names one."""
        run, shares = visitor.query_params.get(PARAMETER), self._answer.shares
        if not run or not shares:
            return dict.fromkeys(self._answer.outputs, gr.skip())
        try:
            return {self._answer.player: shares.find(run)}
        except LilyError as error:
            ended = {"phase": "error", "text": str(error), "running": False}
            return {self._answer.progress: Progress([]).value() | ended}

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
        yield {self._answer.progress: _waiting(blank, visitor)} | self._running()

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
        context: list[str] | None = None,
        wall: str = "",
        brightness: float = 0.0,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Run from the page: updates of the answer until the end or an error.

        A comparison where it is asked for, or where a reference is given and there is an encoder to
        compare. Stop, or a browser that goes away, closes this generator, and with it the run.
        """
        values = (preset, encoder, steps, seed, sampler, guidance, cutoff, compare, reference)
        values += (context, wall, brightness)
        yield from self._follow(self._asked(recording, *values), "", visitor)

    def _asked(
        self,
        recording: str,
        preset: str,
        encoder: str,
        *values: Any,
    ) -> tuple[Any, ...]:
        """The values of ``request_of`` from those of ``run``."""
        *values, compare, reference, context, wall, brightness = values
        compares = (compare or bool(reference)) and not self._shelf.encoder_note(preset)
        both = "both" if compares else encoder
        known = (context, wall, brightness)
        return (recording, preset, both, *values, reference if compares else None, *known, (), "")

    def arm_file(
        self,
        event: gr.EventData,
        visitor: gr.Request,
        recording: str | None,
        *values: Any,
    ) -> Iterator[Updates]:
        """Answer for one of several recordings: with the settings on show it becomes a job."""
        self._runs.pop(_session(visitor), None)
        asked = event._data if isinstance(event._data, dict) else {}
        path, name = asked.get("path"), str(asked.get("name", ""))
        if not is_upload(path, self._cache.folder):
            yield self._ended(Progress([], recording=name).value(), "error", EXPIRED)
            raise gr.Error(EXPIRED, visible=False, print_exception=False)
        job = self._jobs.keep(self._asked(path, *values))
        blank = Progress([], recording=Path(path).name).value()
        alone = {self._controls.recording: path} if asked.get("alone") is True else {}
        shown = {self._answer.progress: _waiting(blank, visitor), self.job: job}
        yield shown | alone | self._running()

    def arm_again(
        self,
        event: gr.EventData,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Answer the click on Continue, or on Another take, which makes a job of its own."""
        self._runs.pop(_session(visitor), None)
        asked = event._data if isinstance(event._data, dict) else {}
        try:
            job, values = asked.get("job"), self._jobs.find(asked.get("job"))
            if "second" in asked:
                seed = secrets.randbelow(SEEDS)
                job = self._jobs.keep(with_take(job, values, asked["second"], seed))
        except LilyError as error:
            blank = Progress([], recording=str(asked.get("name", ""))).value()
            yield self._ended(blank | {"job": str(asked.get("job"))}, "error", str(error))
            raise gr.Error(str(error), visible=False, print_exception=False) from error
        blank = Progress([], recording=Path(values[0]).name).value()
        shown = {self._answer.progress: _waiting(blank, visitor), self.job: job}
        yield shown | {self._controls.recording: values[0]} | self._running()

    def run_again(
        self,
        job: str,
        visitor: gr.Request = None,  # type: ignore[assignment]  # Gradio fills it in
    ) -> Iterator[Updates]:
        """Continue an unfinished run from its finished chunks; updates as of ``run``."""
        yield from self._follow(None, job, visitor)

    def _follow(
        self, values: tuple[Any, ...] | None, job: str, visitor: gr.Request | None
    ) -> Iterator[Updates]:
        """Run a request, or the one of a job."""
        last, shows = Progress([]).value(), False
        name = _session(visitor)
        try:
            asked = self._jobs.find(job) if values is None else values
            request = request_of(*asked)
            last = Progress([], recording=request.recording.name).value()
            run = self._run(request, job or self._jobs.keep(asked))
            self._runs[name] = run  # for ``stopped``, should this generator be closed
            with closing(run.snapshots()) as snapshots:
                for snapshot in snapshots:
                    last = snapshot.progress
                    ended = {} if last["running"] else self.free()
                    updates = self._answer.show(snapshot)
                    shows = self._answer.player in updates
                    yield updates | ended
        except Exception as error:
            self._runs.pop(name, None)
            message = sentence(error)
            nothing = {self._answer.player: NOTHING} if shows else {}
            yield self._ended(last, "error", message) | nothing
            raise gr.Error(message, visible=False, print_exception=False) from error
        self._runs.pop(name, None)

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
                shown = self._ended(_as_progress(progress), "stopped", NOTHING_FINISHED)
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

    def _run(self, request: Request, job: str) -> Run:
        """A run inside Gradio's cache: files there are servable, and expire."""
        places = (self._shelf, self._cache, self._settings)
        return Run(request, *places, pace=self._pace, job=job)

    def _running(self) -> Updates:
        stop = self._controls.stop
        return {b: gr.update(interactive=b is stop) for b in self._controls.buttons}

    def _ended(self, progress: dict[str, Any], phase: str, text: str) -> Updates:
        ended = {"phase": phase, "text": text, "running": False, "remaining": None}
        return {self._answer.progress: progress | ended} | self.free()


def _session(visitor: gr.Request | None) -> str:
    """The name of an open page; empty for a call from Python."""
    return getattr(visitor, "session_hash", None) or ""


def _waiting(blank: dict[str, Any], visitor: gr.Request | None) -> dict[str, Any]:
    """The progress of a run that waits; by ``visitor`` the panel asks for its place."""
    return blank | {"visitor": _session(visitor)}


def _as_progress(value: Any) -> dict[str, Any]:
    """The progress a browser sent back, or a blank one: what a client sends may be anything."""
    blank = Progress([]).value()
    return value if isinstance(value, dict) and blank.keys() <= value.keys() else blank
