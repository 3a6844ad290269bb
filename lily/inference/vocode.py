"""Turn continuous log-mel into samples: the vocoder in fixed blocks, each with a halo.

A block's bits depend on its own frames, its halo and the white noise of its place, never on how
the frames arrived; what is held is one block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lily.diffusion.noise import NoiseField
from lily.dsp.blocks import silence
from lily.model.latent_diffusion import LatentDiffusion
from lily.model.vocoder import HALO

VOCODER_FRAMES = 512  # mel frames a vocoder call makes, besides its halo: 5.12 s


class VoicedStream:
    """The vocoder over continuous log-mel: fixed blocks, each with a halo of its neighbours."""

    def __init__(
        self,
        model: LatentDiffusion,
        noise: NoiseField,
        samples: int,
        hop: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.vocoder = model.first_stage_model.vocoder
        self.noise, self.samples, self.hop = noise, samples, hop
        self.device, self.precision = device, precision
        self._held: Tensor | None = None  # frames from HALO before the next block on
        self._next = 0  # first frame of the next block
        self._frames = 0  # pushed so far

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """Take log-mel frames (C, l, M), yield the samples (C, n) that are final."""
        if self._held is None:
            self._held = silence(frames, HALO)
        self._held = torch.cat([self._held, frames], dim=1)
        self._frames += frames.shape[1]
        while self._held.shape[1] >= VOCODER_FRAMES + 2 * HALO:
            yield self._block()

    def flush(self) -> Iterator[Tensor]:
        """Yield the rest: in total the samples of all frames, at most the recording's."""
        assert self._held is not None
        while self._next < self._frames:
            missing = VOCODER_FRAMES + 2 * HALO - self._held.shape[1]
            self._held = torch.cat([self._held, silence(self._held, max(missing, 0))], dim=1)
            yield self._block()

    def _block(self) -> Tensor:
        assert self._held is not None
        count = VOCODER_FRAMES + 2 * HALO
        white = None
        if self.vocoder.uses_noise:
            start = (self._next - HALO) * self.hop
            white = self.noise.white(start, count * self.hop)[None].to(self.device)
        rows = []
        for channel in self._held[:, :count]:  # one row a call: a shape for any channel count
            log_mel = channel.T[None].to(self.device)
            with Networks(self.device, self.precision):
                rows.append(self.vocoder(log_mel, white)[0].float().cpu())
        samples = torch.stack(rows)[:, HALO * self.hop : -HALO * self.hop]
        first = self._next * self.hop
        self._held = self._held[:, VOCODER_FRAMES:]
        self._next += VOCODER_FRAMES
        end = min(self.samples, self._frames * self.hop)
        return samples[:, : max(0, end - first)]


class Networks:
    """Where networks run: no gradients, in the engine's precision.

    Never held across a ``yield``: what the caller does meanwhile is not ours to cast.
    """

    def __init__(self, device: torch.device, precision: torch.dtype) -> None:
        self._inference = torch.inference_mode()
        self._cast = torch.autocast(device.type, precision, enabled=precision is not torch.float32)

    def __enter__(self) -> None:
        self._inference.__enter__()
        self._cast.__enter__()

    def __exit__(self, *error: object) -> None:
        self._cast.__exit__(*error)
        self._inference.__exit__(*error)
