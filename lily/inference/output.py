"""The output files of a run: variants spliced onto the recording, block by block.

A comparison also writes the difference of its two variants. All of them are spliced in step, so the
difference and the band they share need no second pass. Signals are (C, n) float32 at the model's
sample rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lily.audio.read import AudioWriter
from lily.audio.temp_files import FileGroup, require_new
from lily.certify.paths import metadata_path
from lily.dsp.splice import Splicer
from lily.errors import InputError
from lily.inference.events import Reading
from lily.inference.metered_writer import MeteredWriter, RunFacts


@dataclass(frozen=True)
class OutputPaths:
    """The files of a run; ``None`` is not written."""

    variants: tuple[Path, ...]
    difference: Path | None = None  # second variant minus first
    recording: Path | None = None  # the input at the engine's sample rate
    low: Path | None = None  # what all variants keep of the input: all but the generated band

    def make_way(self) -> None:
        """Remove the temporary files of killed runs; raises InputError if a file exists already."""
        metadata = [metadata_path(path) for path in self.variants]
        # Where a FLAC would clip, a float WAV is written instead.
        others = [path.with_suffix(".wav") for path in self.variants if path.suffix == ".flac"]
        files = (*self.variants, *others, *metadata, self.difference, self.recording, self.low)
        for path in files:
            if path is not None:
                require_new(path)


class OutputWriter:
    """Splice generated blocks onto the recording and write every variant of a run."""

    def __init__(
        self,
        paths: OutputPaths,
        sample_rate: int,
        frames: int,
        means: Tensor,
        splicer: Callable[[], Splicer],
        facts: Sequence[RunFacts],
        speakers: int | None = None,
    ) -> None:
        """Open the files of ``paths``; ``facts`` are each variant's metadata before measuring.

        ``speakers`` is the recording's WAVE speaker mask. ``means`` (C, 1) is the recording's DC:
        the filters see the recording without it, as they would ring at its ends. 0 for a channel
        that stays as it is, since taking it away and adding it again rounds.
        """
        self._means = means
        self._files = ExitStack()

        def opened(path: Path) -> AudioWriter:
            shape = sample_rate, means.shape[0]
            writer = AudioWriter(path, *shape, frames=frames, files=group, speakers=speakers)
            return self._files.enter_context(writer)

        with self._files:  # if one cannot be opened, those before it are removed
            group = self._group = self._files.enter_context(FileGroup())
            self.writers = [
                self._files.enter_context(
                    MeteredWriter(path, sample_rate, means.shape[0], frames, group, own, speakers)
                )
                for path, own in zip(paths.variants, facts, strict=True)
            ]
            self._difference = opened(paths.difference) if paths.difference else None
            self._recording = opened(paths.recording) if paths.recording else None
            self._low = opened(paths.low) if paths.low else None
            self._files = self._files.pop_all()
        self._splicers = [splicer() for _ in paths.variants]
        self._low_splicer = splicer()

    def close(self) -> None:
        """Complete the files; if that fails, remove those that are not complete."""
        self._files.close()

    def discard(self) -> None:
        """Remove the files that are not complete."""
        for writer in (*self.writers, self._difference, self._recording, self._low):
            if writer:
                writer.discard()
        self._group.discard()

    def copy(self, recording: Iterable[Tensor]) -> Iterator[Reading]:
        """Write the recording's blocks (C, n) as they are."""
        for block in recording:
            for writer in self.writers:
                writer.measure(block)
                writer.write(block)
            yield Reading(self.writers[0].frames / self.writers[0].sample_rate)

    def plan(self, joins: Sequence[float], fade: float) -> None:
        """Say where chunks are joined and over how long, in seconds."""
        for writer in self.writers:
            writer.plan(joins, fade)

    def write(self, recording: Tensor, generated: Tensor) -> list[Tensor]:
        """Splice a block (C, n) of the recording and generated blocks (K, C, n), one a variant.

        The generated blocks have no DC. Returns what was appended to each variant's file, (C, n).
        """
        for writer in self.writers:
            writer.measure(recording)
        recording = recording - self._means
        pairs = zip(self._splicers, generated, strict=True)
        stored = self._append([splicer.push(recording, made) for splicer, made in pairs])
        if self._recording:
            self._recording.write(recording + self._means)
        if self._low:
            self._low.write(self._low_splicer.push(recording, 0 * recording) + self._means)
        return stored

    def flush(self) -> None:
        """Write what the splicers still hold."""
        self._append([splicer.flush() for splicer in self._splicers])
        if self._low:
            self._low.write(self._low_splicer.flush() + self._means)

    def _append(self, blocks: list[Tensor]) -> list[Tensor]:
        pairs = zip(self.writers, blocks, strict=True)
        stored = [writer.write(block + self._means) for writer, block in pairs]
        if self._difference:
            self._difference.write(blocks[1] - blocks[0])
        return stored


def make_folder(path: Path) -> None:
    """Make the output folder; raises InputError if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {path} cannot be made ({error.strerror}); give another."
        ) from error
