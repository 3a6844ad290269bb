"""Group the chunk items of several recordings into batches.

Recordings are read one after the other, and only as far as the next batch needs. As an item carries
everything that determines its result, it does not matter which items share a batch. At most about
two recordings per place of a batch are open at once, and results appear nearly in order, so memory
does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lily.errors import LilyError
from lily.inference.events import Failed, Sampling
from lily.inference.sample import ChunkItem, SampledStep, Sampler, SamplingConfig

# Limit of open recordings, per item of a batch. Above 1, because recordings with different settings
# cannot share a batch: with the profile audiosr, short ones have chunks of their own length.
OPEN_PER_ITEM = 2


class SampleNow:
    """Yielded by a recording's ``read``: sample all waiting items before reading on."""


class Recording(Protocol):
    """What is batched: lily.inference.recording.RecordingRun, or a wrapper around it."""

    @property
    def complete(self) -> bool:
        """Whether everything is read and generated, so that it can finish."""
        ...

    def read(self) -> Iterator[Any]:
        """Yield events, then ChunkItems; SampleNow where memory would grow otherwise."""
        ...

    def add(self, variant: int, sampled: Sequence[tuple[ChunkItem, Tensor]]) -> Iterator[Any]:
        """Take what was sampled for items of a variant; yields events."""
        ...

    def finish(self) -> Iterator[Any]:
        """Complete the output, as far as it is generated; yields the last event."""
        ...

    def close(self) -> None:
        """End the run and remove incomplete files; finished chunks stay for resuming."""
        ...


@dataclass(frozen=True)
class Batch:
    """Items of one configuration, and the recording of each."""

    recordings: Sequence[Recording]
    items: Sequence[ChunkItem]

    def sampling(self, step: SampledStep) -> Iterator[tuple[Recording, Sampling]]:
        """The event of a finished step, for each of the recordings in it."""
        for recording, places in self._by_recording(step):
            chunks = tuple(sorted({self.items[place].chunk for place in places}))
            steps = self.items[0].config.steps
            yield recording, Sampling(chunks, step.step, steps, step.variant)

    def sampled(
        self, step: SampledStep
    ) -> Iterator[tuple[Recording, list[tuple[ChunkItem, Tensor]]]]:
        """The items of each recording with their log-mels, after the last step."""
        log_mels = dict(zip(step.items, step.log_mels, strict=True))
        for recording, places in self._by_recording(step):
            yield recording, [(self.items[place], log_mels[place]) for place in places]

    def _by_recording(self, step: SampledStep) -> list[tuple[Recording, list[int]]]:
        places: dict[int, list[int]] = {}
        for place in step.items:
            places.setdefault(id(self.recordings[place]), []).append(place)
        return [(self.recordings[each[0]], each) for each in places.values()]


class Batcher:
    """Reads recordings into batches, and keeps track of those that are open."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._open: list[Recording] = []  # oldest first
        self._waiting: dict[SamplingConfig, list[tuple[Recording, ChunkItem]]] = {}

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *error: object) -> None:
        for recording in self._open:
            recording.close()

    def batches(self, recordings: Iterable[Recording]) -> Iterator[Batch | tuple[Recording, Any]]:
        """Read the recordings; yields (recording, event) pairs, and batches as soon as they fill.

        Short batches come at the end, or when too many recordings are open.
        """
        for recording in recordings:
            self._open.append(recording)
            for _, made in self.attempt(recording, recording.read()):
                if isinstance(made, SampleNow):
                    while self._waiting:
                        yield self._oldest()
                elif not isinstance(made, ChunkItem):
                    yield recording, made
                elif batch := self._add(recording, made):
                    yield batch
                if recording not in self._open:
                    break
            yield from self.finish_complete()
            while self._too_many_open():
                yield self._oldest()
        while self._waiting:
            yield self._oldest()

    def attempt(
        self, recording: Recording, events: Iterator[Any]
    ) -> Iterator[tuple[Recording, Any]]:
        """Yield a recording's events; if it fails, it alone ends, with ``Failed``.

        A recording that has ended already, in an earlier part of a batch, is left alone.
        """
        if recording not in self._open:
            return
        try:
            for event in events:
                yield recording, event
        except (LilyError, OSError) as error:
            yield from self.fail([recording], error)

    def fail(
        self, recordings: Iterable[Recording], error: Exception
    ) -> Iterator[tuple[Recording, Failed]]:
        """End recordings because of an error."""
        for recording in recordings:
            if recording in self._open:
                self._open.remove(recording)
                recording.close()
                self._forget(recording)
                yield recording, Failed(error)

    def finish_complete(self) -> Iterator[tuple[Recording, Any]]:
        """Finish the open recordings that are complete."""
        for recording in [each for each in self._open if each.complete]:
            yield from self._finish(recording)

    def finish_all(self) -> Iterator[tuple[Recording, Any]]:
        """Finish the open recordings with the chunks they have."""
        for recording in list(self._open):
            yield from self._finish(recording)

    def _finish(self, recording: Recording) -> Iterator[tuple[Recording, Any]]:
        for pair in self.attempt(recording, recording.finish()):
            if recording in self._open:  # its files are complete: it must not finish again
                self._open.remove(recording)
            yield pair
        if recording in self._open:
            self._open.remove(recording)

    def _add(self, recording: Recording, item: ChunkItem) -> Batch | None:
        waiting = self._waiting.setdefault(item.config, [])
        waiting.append((recording, item))
        if len(waiting) < self._sampler.batch_size(item.config):
            return None
        return self._batch(item.config)

    def _too_many_open(self) -> bool:
        if not self._waiting:
            return False
        size = self._sampler.batch_size(next(iter(self._waiting)))
        return len(self._open) > OPEN_PER_ITEM * size

    def _oldest(self) -> Batch:
        return self._batch(next(iter(self._waiting)))

    def _batch(self, config: SamplingConfig) -> Batch:
        """Everything that waits with this configuration."""
        recordings, items = zip(*self._waiting.pop(config), strict=True)
        return Batch(recordings, items)

    def _forget(self, recording: Recording) -> None:
        """Drop the items of a recording that has failed."""
        for config, waiting in list(self._waiting.items()):
            self._waiting[config] = [pair for pair in waiting if pair[0] is not recording]
            if not self._waiting[config]:
                del self._waiting[config]
