"""Decide what the noise is: a pure function of the seed and of a place in the recording.

Latent noise comes in absolute blocks of 64 latent frames (5.12 s), the vocoder's white noise in
absolute blocks of 65,536 samples. ``places`` are the random choices of the drawn copy (see
lily/dsp/carriers.py). Every block is drawn by its own CPU generator in float32, seeded
by a hash: any chunk can be drawn alone, on any worker, after any restart, and windows that share
time share noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

POSTERIOR = -1  # the "step" whose noise draws the low-pass latent, where a profile draws it
FRAMES = 64  # latent frames per block: 5.12 s, so a chunk touches two or three
SAMPLES = 65_536  # samples per block of white noise: 1.37 s at 48 kHz


class NoiseField:
    """Unit normal noise over a whole recording, drawn where it is asked for and never stored."""

    def __init__(self, seed: int, channels: int, bins: int) -> None:
        self.seed = int(seed)
        self.channels = channels  # of the latent; a recording's channels share their noise
        self.bins = bins

    def with_seed(self, seed: int) -> NoiseField:
        """The field of another seed, of the same shape."""
        return NoiseField(seed, self.channels, self.bins)

    def latent(self, step: int, starts: Sequence[int], length: int) -> Tensor:
        """Return noise (B, channels, length, bins) of one sampler step, float32 on the CPU.

        ``starts`` (B,) and ``length`` are absolute latent frames; a start may be negative.
        """
        shape = (self.channels, FRAMES, self.bins)
        rows = []
        for start in map(int, starts):
            blocks = range(start // FRAMES, (start + length - 1) // FRAMES + 1)
            drawn = [self._draw(shape, "latent", int(step), block) for block in blocks]
            rows.append(torch.cat(drawn, dim=1).narrow(1, start % FRAMES, length))
        return torch.stack(rows)

    def white(self, start: int, count: int, stream: int = 0) -> Tensor:
        """Return white noise (count,) of unit variance for samples [start, start + count).

        Each ``stream`` is independent of the others. Float32 on the CPU; ``start`` may be negative,
        as a vocoder's halo before the beginning is.
        """
        if not count:
            return torch.zeros(0)
        blocks = range(start // SAMPLES, (start + count - 1) // SAMPLES + 1)
        more = (stream,) if stream else ()
        drawn = [self._draw((SAMPLES,), "white", block, *more) for block in blocks]
        return torch.cat(drawn).narrow(0, start % SAMPLES, count).clone()

    def places(self, first: int, count: int, segment: int) -> Tensor:
        """Return values in [0, 1) (count,) for frames [first, first + count), one a segment.

        Segments are ``segment`` frames long and lie at absolute places; ``first`` may be negative.
        """
        last = (first + count - 1) // segment
        drawn = [
            torch.rand(1, generator=self._generator("place", place))
            for place in range(first // segment, last + 1)
        ]
        start = first % segment
        return torch.cat(drawn).repeat_interleave(segment)[start : start + count]

    def _draw(self, shape: tuple[int, ...], kind: str, *place: int) -> Tensor:
        return torch.randn(shape, generator=self._generator(kind, *place))

    def _generator(self, kind: str, *place: int) -> torch.Generator:
        tag = repr(("lily", kind, self.seed, *place)).encode()
        digest = hashlib.blake2b(tag, digest_size=8).digest()
        # 63 bits: what torch.Generator takes without wrapping around.
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
