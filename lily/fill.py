"""Fill chunks in: log-mel frames of the band-limited recording in, generated samples out, in order.

Rows (one chunk of one channel) are sampled in batches of a fixed shape, padded when short, so that
a chunk's bits depend on nothing but its own input, the context and the noise of its place. Chunks
are blended in the log-mel domain and the vocoder runs over the continuous result in fixed blocks
with a halo. What is held is a few chunks, whatever the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.config import MEL_FRAMES_PER_LATENT, InferenceConfig
from lily.diffusion.guidance import guided
from lily.diffusion.noise import POSTERIOR, NoiseField
from lily.diffusion.samplers import sample
from lily.dsp.audiosr import share_index
from lily.dsp.bandwidth import FULL_BAND_HZ
from lily.dsp.blocks import FrameBuffer
from lily.dsp.chunks import Chunk, crossfade_weights, plan_chunks
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.events import ChunksDone, Sampling
from lily.model.attention import LATENT_SECONDS, Conditioning, ContextCache
from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion
from lily.profiles import Profile
from lily.voice import Networks, VoicedStream


@dataclass(frozen=True)
class FillSettings:
    """One recording's facts and choices."""

    samples: int  # at 48 kHz
    channels: int
    cutoffs: Cutoffs
    steps: int
    sampler: str
    guidance: float
    seed: int
    profile: Profile
    frames: int  # log-mel frames that are filled, the last samples' and a profile's silence after


@dataclass(frozen=True)
class _Row:
    """One channel of one chunk, waiting to be sampled."""

    chunk: Chunk
    channel: int
    log_mel: Tensor  # (T, M), band-limited


class _Take:
    """One way to fill the recording in: what its chunks know, and what has been made of them."""

    def __init__(self, cache: ContextCache | None, made: FrameBuffer, voiced: VoicedStream) -> None:
        self.cache, self.made, self.voiced = cache, made, voiced
        self.results: dict[int, dict[int, Tensor]] = {}
        self.blended = 0  # chunks that are in the continuous log-mel


class Filler:
    """The third pass of one recording, for one take or several that differ in their context alone.

    Takes share the latents of the recording and the noise; each is sampled, decoded and voiced in
    the shapes it would have alone, so that its bits do not depend on the others.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        mel: LogMel,
        inference: InferenceConfig,
        settings: FillSettings,
        contexts: Sequence[GlobalContext | None],
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.model, self.mel, self.inference, self.settings = model, mel, inference, settings
        self.device, self.precision = device, precision
        self.frames = settings.frames
        latents = -(-self.frames // MEL_FRAMES_PER_LATENT)
        self.length = settings.profile.chunk(latents, inference.chunk)  # latent frames a chunk
        self.chunks = plan_chunks(latents, self.length, inference.overlap)
        self.weights = crossfade_weights(
            self.chunks, inference.fade, MEL_FRAMES_PER_LATENT, inference.overlap
        )
        self._known_bins = {hz: _known_bins(mel, hz) for hz in settings.cutoffs.hz}
        autoencoder = model.first_stage_model.config
        self.noise = NoiseField(settings.seed, model.channels, autoencoder.bins)
        self._low = FrameBuffer(settings.channels, mel.config.n_mels)
        self._takes = [self._take(context) for context in contexts]
        self._rows: list[_Row] = []
        self._cut = 0  # chunks whose rows were taken from the input

    def _take(self, context: GlobalContext | None) -> _Take:
        with torch.inference_mode():
            cache = None if context is None else self.model.unet.context_cache(context)
        hop, made = self.mel.config.hop, FrameBuffer(self.settings.channels, self.mel.config.n_mels)
        place = self.device, self.precision
        voiced = VoicedStream(self.model, self.noise, self.settings.samples, hop, *place)
        return _Take(cache, made, voiced)

    @property
    def finished(self) -> int:
        """Chunks that every take has."""
        return min(take.blended for take in self._takes)

    def spans(self) -> tuple[tuple[float, float], ...]:
        """Every chunk's (start, stop) in seconds, the last ending with the recording."""
        end = self.settings.samples / self.mel.config.sample_rate
        return tuple(
            (c.start * LATENT_SECONDS, min(c.stop * LATENT_SECONDS, end)) for c in self.chunks
        )

    def over(self, portions: Iterable[Tensor]) -> Iterator[Tensor | Sampling | ChunksDone]:
        """Take all the recording's frames in portions (C, l, M); yields as ``push`` does."""
        for frames in portions:
            yield from self.push(frames)

    def push(self, frames: Tensor) -> Iterator[Tensor | Sampling | ChunksDone]:
        """Take the next band-limited frames (C, l, M); yield events and samples in order.

        Samples are (K, C, n), one block for each of the K takes. The last call is the one that
        completes the recording's frames.
        """
        self._low.append(frames)
        if self._low.stop >= self.frames:
            last = self.chunks[-1].stop * MEL_FRAMES_PER_LATENT
            self._low.extend_to(last)
        self._cut_rows()
        complete = self._cut == len(self.chunks)
        while len(self._rows) >= self.inference.batch or (complete and self._rows):
            batch = self._rows[: self.inference.batch]
            del self._rows[: self.inference.batch]
            low_mel, starts = self._stacked(batch)
            low = self._encoded(low_mel, starts)
            for index, take in enumerate(self._takes):
                yield from self._sample(batch, low, starts, index)
                finished = self._blend(take)
                if finished:
                    yield ChunksDone(finished, take.blended, len(self.chunks), index)
            yield from self._voice(last=self.finished == len(self.chunks))

    def rest(self) -> Iterator[Tensor]:
        """After an early end: the samples (K, C, n) of every finished chunk that are still due."""
        yield from self._voice(last=True)

    def _cut_rows(self) -> None:
        while self._cut < len(self.chunks):
            chunk = self.chunks[self._cut]
            start, stop = (n * MEL_FRAMES_PER_LATENT for n in (chunk.start, chunk.stop))
            if stop > self._low.stop:
                return
            log_mel = self._low.read(start, stop)
            self._rows += [_Row(chunk, c, log_mel[c]) for c in range(self.settings.channels)]
            self._cut += 1
            if self._cut < len(self.chunks):
                self._low.forget(self.chunks[self._cut].start * MEL_FRAMES_PER_LATENT)

    def _stacked(self, rows: list[_Row]) -> tuple[Tensor, list[int]]:
        """Log-mels (B, T, M) of a batch of fixed shape, and starts; missing rows are silent."""
        frames = self.length * MEL_FRAMES_PER_LATENT
        low_mel = torch.full((self.inference.batch, frames, self.mel.config.n_mels), LOG_FLOOR)
        starts = [0] * self.inference.batch
        for place, row in enumerate(rows):
            low_mel[place] = row.log_mel
            starts[place] = row.chunk.start
        return low_mel, starts

    def _encoded(self, low_mel: Tensor, starts: list[int]) -> Tensor:
        """The latents (B, z, L, M') that every take of a batch is conditioned by."""
        with self._networks():
            posterior = self.model.low_posterior(low_mel.to(self.device))
            if self.settings.profile.draws_low:
                return posterior.at(self.noise.latent(POSTERIOR, starts, self.length)).float()
            return posterior.mean.float()

    def _sample(
        self, rows: list[_Row], low: Tensor, starts: list[int], index: int
    ) -> Iterator[Sampling]:
        """Sample a batch for take number ``index`` and decode it; padding rows are dropped."""
        take = self._takes[index]
        touched = tuple(sorted({row.chunk.index for row in rows}))
        conditioning = self._conditioning(take.cache, starts)

        def predict(x: Tensor, t: Tensor, low: Tensor) -> Tensor:
            with self._networks():
                return self.model.predict_v(x, low, t, conditioning)

        def guidance(t: Tensor) -> float:
            first, end = self.settings.profile.guided or self.inference.guided
            return self.settings.guidance if first <= int(t[0]) < end else 1.0

        steps = sample(
            lambda x, t: guided(predict, x, t, low, UNCONDITIONAL, guidance(t)),
            lambda step: self.noise.latent(step, starts, self.length),
            sampler=self.settings.sampler,
            steps=self.settings.steps,
            device=self.device,
        )
        latent = low
        for step, x in steps:
            latent = x
            yield Sampling(touched, step + 1, self.settings.steps, index)
        with self._networks():
            made = self.model.decode(latent).float().cpu()
        for place, row in enumerate(rows):
            log_mel = self._replaced(made[place], row)
            take.results.setdefault(row.chunk.index, {})[row.channel] = log_mel

    def _replaced(self, made: Tensor, row: _Row) -> Tensor:
        """Put what is known back: the bins below the cutoff, and silence where there is silence.

        Source of the first: AudioSR ``ddpm.py: mel_replace_ops``.
        """
        low, first = row.log_mel, row.chunk.start * MEL_FRAMES_PER_LATENT
        if self.settings.profile.replaces_share:
            bins = share_index(low.exp())
            return torch.cat([low[:, :bins], made[:, bins:]], dim=1)
        made = made.clamp(min=LOG_FLOOR)
        centres = (torch.arange(first, first + len(low)) + 0.5) * self.mel.config.hop
        cutoffs = self.settings.cutoffs.at(centres.long()).tolist()
        known = torch.tensor([self._known_bins[hz] for hz in cutoffs])
        below = torch.arange(low.shape[1]) < known[:, None]
        made[below] = low[below]
        silent = low.amax(dim=1) <= LOG_FLOOR
        made[silent] = LOG_FLOOR
        return made

    def _conditioning(self, cache: ContextCache | None, starts: list[int]) -> Conditioning | None:
        if cache is None:
            return None
        seconds = torch.tensor(starts, dtype=torch.float64) * LATENT_SECONDS
        return Conditioning(cache, seconds.to(self.device))

    def _blend(self, take: _Take) -> tuple[int, ...]:
        """Add finished chunks to the continuous log-mel, in order; returns their indices."""
        finished = []
        while len(take.results.get(take.blended, ())) == self.settings.channels:
            chunk, weight = self.chunks[take.blended], self.weights[take.blended]
            channels = take.results.pop(take.blended)
            log_mel = torch.stack([channels[c] for c in range(self.settings.channels)])
            take.made.add(chunk.start * MEL_FRAMES_PER_LATENT, log_mel * weight[:, None])
            finished.append(take.blended)
            take.blended += 1
        return tuple(finished)

    def _voice(self, last: bool) -> Iterator[Tensor]:
        """Run the vocoder over what no later chunk will touch; ``last``: and over its end."""
        if self.finished == len(self.chunks):
            final = self.frames
        else:
            final = self.chunks[self.finished].start * MEL_FRAMES_PER_LATENT
        blocks = zip(*(self._voiced(take, final, last) for take in self._takes), strict=True)
        yield from (torch.stack(block) for block in blocks)

    def _voiced(self, take: _Take, final: int, last: bool) -> Iterator[Tensor]:
        start = take.made.start
        if final > start:
            frames = take.made.read(start, final)
            take.made.forget(final)
            yield from take.voiced.push(frames)
        if last:
            yield from take.voiced.flush()

    def _networks(self) -> Networks:
        return Networks(self.device, self.precision)


def _known_bins(mel: LogMel, cutoff_hz: float) -> int:
    """Mel bins that the recording itself fills, below a cutoff; all of them in a full band."""
    if cutoff_hz >= FULL_BAND_HZ:
        return mel.config.n_mels
    return mel.first_bin_above(cutoff_hz * 0.95)
