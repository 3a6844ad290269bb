"""Drive recordings so that they share batches: read on where rows are few, sample where they fill.

A recording is a generator of the engine's events that yields ``Waiting`` where rows want sampling.
One recording is the plain case; several are open at once only as far as a batch needs, oldest
first, so that results leave nearly in order and what is held does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lily.errors import LilyError
from lily.inference.events import Event, Sampling, StopEarly
from lily.inference.generate import Filler, Pending, Waiting
from lily.inference.sample import Row, Sampled

Recording = Generator[Event | Waiting, None, None]
Key = TypeVar("Key", bound=Hashable)
Told = TypeVar("Told")

# Open recordings a batch's row: more than one where recordings of several manners wait, since
# AudioSR's profile has chunks as long as the recording.
OPEN_PER_ROW = 2


class Sampler(Protocol):
    """What samples a batch: the engine's networks, or those of other machines."""

    wanted: int

    def run(self, rows: list[Row]) -> Iterator[Sampled]:
        """Sample at most ``wanted`` rows of one manner, take by take."""
        ...


@dataclass(frozen=True)
class Failed:
    """A recording has ended in an error; the others go on."""

    error: Exception


def alone(recording: Recording, sampler: Sampler) -> Generator[Event, None, None]:
    """The events of one recording; raises its errors. StopEarly may be thrown in."""

    def told(_: None, event: Event | Failed) -> Event:
        if isinstance(event, Failed):
            raise event.error
        return event

    yield from together([(None, recording)], sampler, told)


def together(
    recordings: Iterable[tuple[Key, Recording]],
    sampler: Sampler,
    told: Callable[[Key, Event | Failed], Told],
) -> Generator[Told, None, None]:
    """What ``told`` makes of every event of recordings that share the sampler's batches.

    ``recordings`` are begun one after the other, when there is room for one more. Closing it closes
    those that are open; StopEarly, thrown in, is thrown into them, and no other is begun.
    """
    shared = _Shared(iter(recordings), sampler, told)
    try:
        while not shared.ended:
            try:
                yield from shared.turn()
            except StopEarly as stop:
                yield from shared.stop(stop)
    finally:
        shared.close()


class _Open:
    """A recording that has begun."""

    def __init__(self, key: Any, recording: Recording) -> None:
        self.key, self.recording = key, recording
        self.filler: Filler | None = None  # once it waits

    @property
    def reads_on(self) -> bool:
        return self.filler is None or self.filler.reads_on


class _Shared:
    """The open recordings and the batch they fill."""

    def __init__(
        self,
        source: Iterator[tuple[Any, Recording]],
        sampler: Sampler,
        told: Callable[[Any, Event | Failed], Any],
    ) -> None:
        self.source, self.sampler, self.told = source, sampler, told
        self.open: list[_Open] = []
        self.exhausted = False

    @property
    def ended(self) -> bool:
        return self.exhausted and not self.open

    def close(self) -> None:
        """Close every open recording: what it had half written goes."""
        for one in self.open:
            one.recording.close()

    def turn(self) -> Iterator[Any]:
        """Do the next thing that is due: sample a full batch, read on, begin another, or finish."""
        batch, full = self._batch()
        if full:
            yield from self._sample(batch)
            return
        for one in self.open:
            if one.reads_on:
                yield from self._resume(one)
                return
        if not self.exhausted and len(self.open) < OPEN_PER_ROW * self.sampler.wanted:
            begun = next(self.source, None)
            if begun is None:
                self.exhausted = True
            else:
                self.open.append(_Open(*begun))
            return
        if batch:
            yield from self._sample(batch)

    def stop(self, stop: StopEarly) -> Iterator[Any]:
        """Have every open recording end with the chunks it has."""
        self.exhausted = True
        for one in list(self.open):
            yield from self._resume(one, stop)

    def _batch(self) -> tuple[list[tuple[_Open, Pending]], bool]:
        """A full batch of one manner, or else the oldest rows; and whether it is full."""
        groups: dict[Any, list[tuple[_Open, Pending]]] = {}
        for one in self.open:
            for pending in one.filler.pending if one.filler else ():
                group = groups.setdefault(pending.row.manner, [])
                group.append((one, pending))
                if len(group) == self.sampler.wanted:
                    return group, True
        return next(iter(groups.values()), []), False

    def _sample(self, batch: list[tuple[_Open, Pending]]) -> Iterator[Any]:
        touched = list(dict.fromkeys(one for one, _ in batch))
        try:
            for made in self.sampler.run([pending.row for _, pending in batch]):
                if made.log_mels is None:
                    yield from self._tell_step(batch, made)
                    continue
                for (one, pending), log_mel in zip(batch, made.log_mels, strict=True):
                    one.filler.receive(pending, made.take, log_mel)
                for one in touched:
                    done = one.filler.blend(made.take)
                    if done is not None:
                        yield self.told(one.key, done)
        except LilyError as error:  # no memory for a row: of no use to any of them
            for one in touched:
                yield from self._resume(one, error)
            return
        for one, pending in batch:
            one.filler.pending.remove(pending)
        for one in touched:
            yield from self._resume(one)

    def _tell_step(self, batch: list[tuple[_Open, Pending]], made: Sampled) -> Iterator[Any]:
        chunks: dict[_Open, set[int]] = {}
        for one, pending in batch:
            chunks.setdefault(one, set()).add(pending.chunk.index)
        for one, indices in chunks.items():
            step = Sampling(tuple(sorted(indices)), made.step, one.filler.manner.steps, made.take)
            yield self.told(one.key, step)

    def _resume(self, one: _Open, thrown: Exception | None = None) -> Iterator[Any]:
        """Go on with a recording until it waits or ends."""
        while True:
            try:
                event = one.recording.throw(thrown) if thrown else next(one.recording)
                thrown = None
            except StopIteration:
                self.open.remove(one)
                return
            except (LilyError, OSError, StopEarly) as error:
                self.open.remove(one)
                yield self.told(one.key, Failed(error))
                return
            if isinstance(event, Waiting):
                one.filler = event.filler
                return
            yield self.told(one.key, event)
