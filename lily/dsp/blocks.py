"""Buffers between streams: samples in blocks, log-mel frames by number, an item made ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.mel import LOG_FLOOR

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, of which the next is made in a thread while the caller works on this one."""
    coming, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        following = worker.submit(next, coming, end)
        while (item := following.result()) is not end:
            following = worker.submit(next, coming, end)
            yield item


def joined(items: Iterable[Tensor], least: int) -> Iterator[Tensor]:
    """Join frames (C, l, M) to blocks of ``least`` frames or more; the last may have fewer."""
    held: list[Tensor] = []
    for frames in items:
        held.append(frames)
        if sum(each.shape[1] for each in held) >= least:
            yield torch.cat(held, dim=1)
            held.clear()
    if held:
        yield torch.cat(held, dim=1)


class SampleFifo:
    """Samples (C, n) in, in blocks of any length, and out again in the lengths asked for.

    What comes out may share memory with what was pushed: it is read-only.
    """

    def __init__(self) -> None:
        self._blocks: deque[Tensor] = deque()
        self.count = 0  # samples held

    def push(self, block: Tensor) -> None:
        """Append a block (C, n)."""
        if not self.count:
            self._blocks.clear()
        self._blocks.append(block)
        self.count += block.shape[-1]

    def take(self, count: int) -> Tensor:
        """The next ``count`` samples (C, count); raises ValueError if fewer are held."""
        taken = self.peek(count)
        self.drop(count)
        return taken

    def peek(self, count: int) -> Tensor:
        """The same samples, which stay; only they are copied, or none if one block has them all."""
        if count > self.count:
            raise ValueError(f"{count} samples were asked for, {self.count} are held.")
        parts, missing = [], count
        for block in self._blocks:
            parts.append(block[..., :missing])
            missing -= parts[-1].shape[-1]
            if not missing:
                break
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def drop(self, count: int) -> None:
        """Forget the next ``count`` samples, or all if fewer are held."""
        count = min(count, self.count)
        self.count -= count
        while len(self._blocks) > 1 and self._blocks[0].shape[-1] <= count:
            count -= self._blocks.popleft().shape[-1]
        if count:
            self._blocks[0] = self._blocks[0][..., count:]


class FrameBuffer:
    """Frames (C, n, M) of a sliding window over the recording, by absolute frame number."""

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
