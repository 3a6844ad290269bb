"""Hold a sliding stretch of log-mel frames by absolute number, silence where there is none."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.mel import LOG_FLOOR


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
    """``count`` silent frames (C, count, M), in the channels and mel bins of ``like``."""
    return like.new_full((like.shape[0], count, like.shape[2]), LOG_FLOOR)
