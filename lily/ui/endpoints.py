"""What programs may call: ``/upsample`` and ``/compare``, whose inputs keep their order.

Docstrings here are the descriptions that the API and MCP clients show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from lily.evaluation.comparison import figures as comparison_figures
from lily.ui.cache import Cache
from lily.ui.estimate import Pace
from lily.ui.report import figures
from lily.ui.request import Request, request_of
from lily.ui.run import Run, Snapshot
from lily.ui.sentences import sentence
from lily.ui.settings import Settings
from lily.ui.shelf import EngineShelf


class Endpoints:
    """The public endpoints, over one shelf of engines."""

    def __init__(self, shelf: EngineShelf, cache: Cache, settings: Settings, pace: Pace) -> None:
        self._places = (shelf, cache, settings)
        self._shelf = shelf
        self._pace = pace

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
        context: list[str] | None = None,
        wall: float | None = None,
        brightness: float | None = None,
    ) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Restore the missing top of a recording; the answer is a list of 48 kHz files and figures.

        encoder is on, off or both (two files, off first, from the same seed); steps, sampler and
        guidance default to the preset's own; without a seed one is drawn and returned; cutoff is in
        Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on; it is detected unless
        given. context are recordings of the same source that have their highs, which need a model
        that remembers pairs; wall is where the generated highs end in Hz, brightness in dB makes
        them louder. While it runs, the figures hold only progress. The last ones hold, for every
        file: output, sample_rate, channels, samples, seconds, cutoff_hz, chunks, seed, steps,
        sampler, guidance, encoder, model, real_time_factor, subtype and
        message.
        """
        values = (encoder, steps, seed, sampler, guidance, cutoff, None)
        values += (context, wall, brightness)
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
        context: list[str] | None = None,
        wall: float | None = None,
        brightness: float | None = None,
    ) -> Iterator[tuple[list[str] | None, dict[str, Any]]]:
        """Fill a recording in with the encoder off and on, from the same noise, and compare them.

        steps, sampler and guidance default to the preset's own; without a seed one is drawn and
        returned; cutoff is in Hz or, where it changes, pieces as SECOND:HZ,SECOND:HZ from 0 on, and
        detected unless given; reference is the full-band original; context, wall and brightness
        are as of upsample. The
        answer is a list of 48 kHz files (off, on, their difference, with a reference its aligned
        copy) and figures: the settings, difference_db of the whole and of every chunk (power of
        on - off against that of the generated band), and with a reference the log-spectral
        distances of both. While it runs, the figures hold only progress.
        """
        values = ("both", steps, seed, sampler, guidance, cutoff, reference)
        values += (context, wall, brightness)
        preset = preset or self._shelf.presets[0]
        for last in self._program(lambda: request_of(audio, preset, *values)):
            yield None, {"progress": last.progress}
        assert last.comparison is not None
        figures = comparison_figures(last.comparison) | {"command": last.command}
        yield [str(path) for path in last.comparison.files.values()], figures

    def _program(self, asked: Callable[[], Request]) -> Iterator[Snapshot]:
        """Run for a program, which gets an error in words."""
        try:
            run = Run(asked(), *self._places, listened=False, pace=self._pace)
            with closing(run.snapshots()) as snapshots:
                yield from snapshots
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error
