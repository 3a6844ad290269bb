"""Hand out a stream in the lengths another stream asks for: samples in blocks, frames by number."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.mel import LOG_FLOOR

T = TypeVar("T")


class InStep:
    """Blocks (C, n) of any lengths in, exactly as many samples as are asked for out, later."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self._count = 0  # samples held

    def over(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass blocks on to another reader of the stream, and hold them."""
        for block in blocks:
            self._held.append(block)
            self._count += block.shape[-1]
            yield block

    def take(self, count: int) -> Tensor:
        """The next ``count`` samples (C, count); raises ValueError if they have not passed yet."""
        if count > self._count:
            raise ValueError(f"{count} samples were asked for, {self._count} are held.")
        joined = torch.cat(self._held, dim=-1)
        self._held, self._count = [joined[:, count:]], self._count - count
        return joined[:, :count]


class FrameBuffer:
    """Frames (C, n, M) of a sliding stretch of the recording, by absolute frame number."""

    def __init__(self, channels: int, mels: int) -> None:
        self.start = 0
        self._frames = torch.zeros(channels, 0, mels)

    @property
    def stop(self) -> int:
        """One past the last frame held."""
        return self.start + self._frames.shape[1]

    def append(self, frames: Tensor) -> None:
        """Put frames after the last."""
        self._frames = torch.cat([self._frames, frames], dim=1)

    def extend_to(self, stop: int) -> None:
        """Continue with silence up to frame ``stop``."""
        self.append(silence(self._frames, max(0, stop - self.stop)))

    def add(self, start: int, frames: Tensor) -> None:
        """Add to what is held from frame ``start`` on, growing with zeros."""
        missing = max(0, start + frames.shape[1] - self.stop)
        grown = F.pad(self._frames, (0, 0, 0, missing))
        grown[:, start - self.start : start - self.start + frames.shape[1]] += frames
        self._frames = grown

    def read(self, start: int, stop: int) -> Tensor:
        """Frames [start, stop)."""
        return self._frames[:, start - self.start : stop - self.start]

    def forget(self, start: int) -> None:
        """Drop what lies before frame ``start``."""
        self._frames = self._frames[:, start - self.start :]
        self.start = start


def silence(like: Tensor, count: int) -> Tensor:
    """``count`` log-mel frames of silence, for the channels and mels of ``like`` (C, L, M)."""
    return like.new_full((like.shape[0], count, like.shape[2]), LOG_FLOOR)


def drained(steps: Generator[Any, None, T]) -> T:
    """What a generator returns in the end; what it yields on the way is not heard."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value
