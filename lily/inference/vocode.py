"""Turn continuous log-mel into samples: the vocoder in fixed blocks with a halo on each side.

A block's samples depend on its own frames, their neighbours and the white noise of its place, not
on how the frames arrived. At most a block and its halo are held.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lily.diffusion.noise import NoiseField
from lily.dsp.blocks import silence
from lily.inference.device import network_mode
from lily.model.vocoder import HALO, Vocoder

VOCODER_FRAMES = 512  # log-mel frames that a call makes, besides its halo: 5.12 s


class StreamingVocoder:
    """Vocode a stream of log-mel frames (C, l, M); the output is at most ``samples`` long."""

    def __init__(
        self,
        vocoder: Vocoder,
        noise: NoiseField,
        samples: int,
        hop: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.vocoder, self.noise, self.samples, self.hop = vocoder, noise, samples, hop
        self.device, self.precision = device, precision
        self._buffer: Tensor | None = None  # frames from HALO before the next block on
        self._next = 0  # first frame of the next block
        self._frames = 0  # pushed so far

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """Take frames (C, l, M); yields the samples (C, n) that are final."""
        if self._buffer is None:
            self._buffer = silence(frames, HALO)
        self._buffer = torch.cat([self._buffer, frames], dim=1)
        self._frames += frames.shape[1]
        while self._buffer.shape[1] >= VOCODER_FRAMES + 2 * HALO:
            yield self._block()

    def flush(self) -> Iterator[Tensor]:
        """Yield the rest; in total the samples of all frames, but at most ``samples``."""
        assert self._buffer is not None
        while self._next < self._frames:
            missing = VOCODER_FRAMES + 2 * HALO - self._buffer.shape[1]
            self._buffer = torch.cat([self._buffer, silence(self._buffer, max(missing, 0))], dim=1)
            yield self._block()

    def _block(self) -> Tensor:
        """Vocode the next block and drop its frames."""
        assert self._buffer is not None
        count = VOCODER_FRAMES + 2 * HALO
        white = None
        if self.vocoder.uses_noise:
            start = (self._next - HALO) * self.hop
            white = self.noise.white(start, count * self.hop)[None].to(self.device)
        channels = []
        for channel in self._buffer[:, :count]:  # one per call: the same shape for any recording
            log_mel = channel.T[None].to(self.device)
            with network_mode(self.device, self.precision):
                channels.append(self.vocoder(log_mel, white)[0].float().cpu())
        samples = torch.stack(channels)[:, HALO * self.hop : -HALO * self.hop]
        first = self._next * self.hop
        self._buffer = self._buffer[:, VOCODER_FRAMES:]
        self._next += VOCODER_FRAMES
        end = min(self.samples, self._frames * self.hop)
        return samples[:, : max(0, end - first)]
