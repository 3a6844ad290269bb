"""Turn continuous log-mel into samples: the vocoder in fixed blocks with a halo on each side.

A block's samples depend on its own frames, their neighbours and the white noise of its place, not
on how the frames arrived. A vocoder that uses the recording also gets carriers made from its
band-limited samples. At most a block and its halo are held, and the samples that frames wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.diffusion.noise import NoiseField
from lily.dsp.blocks import SampleFifo, silence
from lily.dsp.carriers import DRAWN_FRAMES, Guide, LowBand
from lily.dsp.carriers import HOP as COPY_HOP
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.stereo_image import StereoImage
from lily.dsp.temporal_shape import TemporalShape
from lily.errors import OutOfMemory
from lily.inference.device import (
    is_out_of_memory,
    network_mode,
    operator_missing,
    release_memory,
)
from lily.inference.options import UpsampleOptions
from lily.inference.reading import RecordingReader
from lily.model.vocoder import HALO, Vocoder

VOCODER_FRAMES = 512  # log-mel frames that a call makes, besides its halo: 5.12 s


class StreamingVocoder:
    """Vocode a stream of log-mel frames (K * C, l, M) of K variants of a recording of C channels.

    The output is at most ``samples`` long. ``shaped`` lets the generated band follow the short-time
    level of the recording, where the vocoder can.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        noise: NoiseField,
        samples: int,
        hop: int,
        device: torch.device,
        precision: torch.dtype,
        cutoffs: Cutoffs,
        image: StereoImage,
        shaped: bool = True,
    ) -> None:
        self.vocoder, self.noise, self.samples, self.hop = vocoder, noise, samples, hop
        self.cutoffs, self.image, self.shaped = cutoffs, image, shaped
        self.device, self.precision = device, precision
        self._buffer: Tensor | None = None  # frames from HALO before the next block on
        self._low: SampleFifo | None = None  # band-limited samples from the same place on
        # Carriers of the next block are made while the network makes this one.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="carriers")
        self._coming: Future[list[Guide]] | None = None
        self._parts = 1  # calls that make a block; doubled when memory runs out
        self._next = 0  # first frame of the next block
        self._frames = 0  # pushed so far

    def hear(self, samples: Tensor) -> None:
        """Take band-limited samples (C, n) at the networks' level, before their frames."""
        if self.vocoder.uses_recording:
            if self._low is None:
                self._low = SampleFifo()
                self._low.push(samples.new_zeros(samples.shape[0], HALO * self.hop))
            self._low.push(samples)

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """Take frames (K * C, l, M); yields the samples (K * C, n) that are final."""
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
        noises = self._noises(count) if self.vocoder.uses_noise else None
        signs = self.image.signs
        guides = self._guides(count) if self.vocoder.uses_recording else []
        channels = []
        # One per call: shapes do not depend on how many channels there are.
        for row, channel in enumerate(self._buffer[:, :count]):
            place = row % len(signs)
            white = None if noises is None else noises[place : place + 1]
            guide = guides[place] if guides else None
            if guide:  # the sign is turned back below
                guide = replace(guide, copies=signs[place] * guide.copies)
            made = self._vocoded(channel.T[None], white, guide)
            channels.append(signs[place] * made)
        samples = torch.stack(channels)
        first = self._next * self.hop
        self._buffer = self._buffer[:, VOCODER_FRAMES:]
        self._next += VOCODER_FRAMES
        end = min(self.samples, self._frames * self.hop)
        return samples[:, : max(0, end - first)]

    def _vocoded(self, log_mel: Tensor, white: Tensor | None, guide: Guide | None) -> Tensor:
        """The samples (n,) of a channel's block from its log-mel (1, M, l), halos included.

        If memory runs out, the block is made in twice as many parts, each with its own halos, and
        so are those that follow. Raises OutOfMemory if not even a part of HALO frames fits.
        """
        while True:
            try:
                return self._in_parts(log_mel, white, guide)
            except NotImplementedError as error:
                raise operator_missing(error, self.device) from error
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if VOCODER_FRAMES // self._parts <= HALO:
                    raise OutOfMemory(
                        f"The memory of {self.device} does not hold the vocoder; close other "
                        "programs, give --precision bf16 or choose a smaller model."
                    ) from error
            # Not inside the handler, whose traceback still holds the tensors.
            self._parts *= 2
            release_memory(self.device)

    def _in_parts(self, log_mel: Tensor, white: Tensor | None, guide: Guide | None) -> Tensor:
        length, made = VOCODER_FRAMES // self._parts, []
        begin, end = self._needed()
        for place in range(0, VOCODER_FRAMES, length):
            first, stop = max(place, begin), min(place + length + 2 * HALO, end)
            inputs: list[Tensor | Guide | None] = [log_mel[:, :, first:stop].to(self.device), None]
            if white is not None:
                inputs[1] = white[:, first * self.hop : stop * self.hop].to(self.device)
            if guide is not None:
                inputs.append(guide.frames(first, stop).to(self.device))
            with network_mode(self.device, self.precision):
                samples = self.vocoder(*inputs)[0].float().cpu()
            skipped = (place + HALO - first) * self.hop
            made.append(samples[skipped : skipped + length * self.hop])
        return torch.cat(made)

    def _needed(self) -> tuple[int, int]:
        """The frames [begin, end) of the next block, halos included, that the vocoder needs.

        Before and after the recording they are silent, and a few of those are enough. A block
        within the recording always has the same shape, and so has a first and a last one.
        """
        spared = HALO - self.vocoder.margin
        is_last = self._next + VOCODER_FRAMES >= self._frames
        begin = spared if self._next == 0 else 0
        return begin, VOCODER_FRAMES + 2 * HALO - (spared if is_last else 0)

    @property
    def reduced(self) -> str:
        """What a result should say after memory ran out; empty otherwise."""
        if self._parts == 1:
            return ""
        return (
            f"Memory ran out in the vocoder, so its blocks were made in {self._parts} parts: "
            "samples may differ from those of whole blocks in their last bits."
        )

    def _noises(self, count: int) -> Tensor:
        """White noise (C, n) for each channel over ``count`` frames of the next block."""
        place = (self._next - HALO) * self.hop, count * self.hop
        streams = self.image.shares.any(0).tolist()  # those that any channel uses
        drawn = [
            self.noise.white(*place, stream) if used else torch.zeros(place[1])
            for stream, used in enumerate(streams)
        ]
        return self.image.mix(torch.stack(drawn))

    def _guides(self, count: int) -> list[Guide]:
        """What the vocoder reads of each channel over ``count`` frames of the next block.

        Those of the block after it are begun, if its samples are there.
        """
        assert self._low is not None
        coming, self._coming = self._coming, None
        guides = coming.result() if coming else self._guides_of(*self._next_low(count, self._next))
        if self._low.count >= count * self.hop:
            following = self._next_low(count, self._next + VOCODER_FRAMES)
            self._coming = self._worker.submit(self._guides_of, *following)
        return guides

    def _next_low(self, count: int, first: int) -> tuple[Tensor, int]:
        """The samples (C, n) of the block from frame ``first`` on and their absolute place.

        A block of them is dropped.
        """
        assert self._low is not None
        length = count * self.hop
        samples = self._low.peek(min(length, self._low.count))
        self._low.drop(VOCODER_FRAMES * self.hop)
        return F.pad(samples, (0, length - samples.shape[1])), (first - HALO) * self.hop

    def _guides_of(self, samples: Tensor, start: int) -> list[Guide]:
        """The guide of each channel (C, n); channels of the same cutoffs are analysed together."""
        tracks = self.cutoffs.channels
        if not tracks:
            return self._analysed(samples, self.cutoffs, start)
        pairs = zip(samples.split(1), tracks, strict=True)
        return [guide for own, track in pairs for guide in self._analysed(own, track, start)]

    def _analysed(self, samples: Tensor, cutoffs: Cutoffs, start: int) -> list[Guide]:
        """The guides of channels (C, n) of the same cutoffs, from an absolute place on.

        Made on the CPU: their sums are in float64, and so they are the same for every device.
        """
        count = samples.shape[1] // self.hop
        centres = start + torch.arange(count) * self.hop + self.hop // 2
        cutoff_hz = cutoffs.at(centres).float()[None]
        with torch.inference_mode():
            band = LowBand(samples[None], cutoff_hz, start)
            frames = band.lag.shape[1]
            places = self.noise.places(start // COPY_HOP, frames, DRAWN_FRAMES)
            guide = band.guide(places[None])
        if not self.shaped:
            guide = replace(guide, level=torch.ones_like(guide.level))
        return [replace(guide, copies=copies[None]) for copies in guide.copies[0].split(1)]


def temporal_shape(
    vocoder: Vocoder, options: UpsampleOptions, reader: RecordingReader
) -> TemporalShape | None:
    """The shape that follows a vocoder, unless that has its own or the options are without."""
    if not options.temporal_shape or vocoder.uses_recording:
        return None
    return TemporalShape(reader.analysis.cutoffs, gain=reader.features.gain)
