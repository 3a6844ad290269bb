"""Fill chunks in: log-mel frames of the band-limited recording in, generated samples out, in order.

Rows (one chunk of one channel) are sampled in batches of a fixed shape, padded when short, so that
a chunk's bits depend on nothing but its own input, the context and the noise of its place. Chunks
are blended in the log-mel domain and the vocoder runs over the continuous result in fixed blocks
with a halo. What is held is a few chunks, whatever the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.config import MEL_FRAMES_PER_LATENT, InferenceConfig
from lily.diffusion.guidance import guided
from lily.diffusion.noise import POSTERIOR, NoiseField
from lily.diffusion.samplers import sample
from lily.dsp.audiosr import share_index
from lily.dsp.bandwidth import FULL_BAND_HZ
from lily.dsp.blocks import FrameBuffer, silence
from lily.dsp.chunks import Chunk, crossfade_weights, plan_chunks
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.events import ChunksDone, Sampling
from lily.model.attention import LATENT_SECONDS, Conditioning
from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion
from lily.model.vocoder import HALO
from lily.profiles import Profile

VOCODER_FRAMES = 256  # mel frames a vocoder call makes, besides its halo: 2.56 s


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


class Filler:
    """The third pass of one recording."""

    def __init__(
        self,
        model: LatentDiffusion,
        mel: LogMel,
        inference: InferenceConfig,
        settings: FillSettings,
        context: GlobalContext | None,
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
        with torch.inference_mode():
            self.cache = None if context is None else model.unet.context_cache(context)
        self._low = FrameBuffer(settings.channels, mel.config.n_mels)
        self._made = FrameBuffer(settings.channels, mel.config.n_mels)
        self._voiced = VoicedStream(model, self.noise, settings, mel.config.hop, device, precision)
        self._rows: list[_Row] = []
        self._results: dict[int, dict[int, Tensor]] = {}
        self._cut = 0  # chunks whose rows were taken from the input
        self._blended = 0  # chunks that are in the continuous log-mel

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
        """Take the next band-limited frames (C, l, M); yield events and samples (C, n) in order.

        The last call is the one that completes the recording's frames.
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
            yield from self._sample(batch)
            finished = self._blend()
            if finished:
                yield ChunksDone(finished, self._blended, len(self.chunks))
            yield from self._voice()

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

    def _sample(self, rows: list[_Row]) -> Iterator[Sampling]:
        """Sample a batch of fixed shape; rows that are missing are silence, and dropped."""
        touched = tuple(sorted({row.chunk.index for row in rows}))
        frames = self.length * MEL_FRAMES_PER_LATENT
        shape = (self.inference.batch, frames, self.mel.config.n_mels)
        low_mel = torch.full(shape, LOG_FLOOR)
        starts = [0] * self.inference.batch
        for place, row in enumerate(rows):
            low_mel[place] = row.log_mel
            starts[place] = row.chunk.start
        with self._networks():
            posterior = self.model.low_posterior(low_mel.to(self.device))
            low = posterior.mean.float()
            if self.settings.profile.draws_low:
                low = posterior.at(self.noise.latent(POSTERIOR, starts, self.length)).float()
        conditioning = self._conditioning(starts)

        def predict(x: Tensor, t: Tensor, low: Tensor) -> Tensor:
            with self._networks():
                return self.model.predict_v(x, low, t, conditioning)

        steps = sample(
            lambda x, t: guided(predict, x, t, low, UNCONDITIONAL, self.settings.guidance),
            lambda step: self.noise.latent(step, starts, self.length),
            sampler=self.settings.sampler,
            steps=self.settings.steps,
            device=self.device,
        )
        latent = low
        for step, x in steps:
            latent = x
            yield Sampling(touched, step + 1, self.settings.steps)
        with self._networks():
            made = self.model.decode(latent).float().cpu()
        for place, row in enumerate(rows):
            log_mel = self._replaced(made[place], row)
            self._results.setdefault(row.chunk.index, {})[row.channel] = log_mel

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

    def _conditioning(self, starts: list[int]) -> Conditioning | None:
        if self.cache is None:
            return None
        seconds = torch.tensor(starts, dtype=torch.float64) * LATENT_SECONDS
        return Conditioning(self.cache, seconds.to(self.device))

    def _blend(self) -> tuple[int, ...]:
        """Add finished chunks to the continuous log-mel, in order; returns their indices."""
        finished = []
        while len(self._results.get(self._blended, ())) == self.settings.channels:
            chunk, weight = self.chunks[self._blended], self.weights[self._blended]
            channels = self._results.pop(self._blended)
            log_mel = torch.stack([channels[c] for c in range(self.settings.channels)])
            self._made.add(chunk.start * MEL_FRAMES_PER_LATENT, log_mel * weight[:, None])
            finished.append(self._blended)
            self._blended += 1
        return tuple(finished)

    def _voice(self) -> Iterator[Tensor]:
        """Run the vocoder over what no later chunk will touch."""
        if self._blended == len(self.chunks):
            final = self.frames
        else:
            final = self.chunks[self._blended].start * MEL_FRAMES_PER_LATENT
        start = self._made.start
        if final > start:
            yield from self._voiced.push(self._made.read(start, final))
            self._made.forget(final)
        if self._blended == len(self.chunks):
            yield from self._voiced.flush()

    def _networks(self) -> _Networks:
        return _Networks(self.device, self.precision)


class VoicedStream:
    """The vocoder over continuous log-mel: fixed blocks, each with a halo of its neighbours."""

    def __init__(
        self,
        model: LatentDiffusion,
        noise: NoiseField,
        settings: FillSettings,
        hop: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.vocoder = model.first_stage_model.vocoder
        self.noise, self.settings, self.hop = noise, settings, hop
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
        """Yield the rest: in total as many samples as the recording has."""
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
            with _Networks(self.device, self.precision):
                rows.append(self.vocoder(log_mel, white)[0].float().cpu())
        samples = torch.stack(rows)[:, HALO * self.hop : -HALO * self.hop]
        first = self._next * self.hop
        self._held = self._held[:, VOCODER_FRAMES:]
        self._next += VOCODER_FRAMES
        return samples[:, : max(0, self.settings.samples - first)]


class _Networks:
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


def _known_bins(mel: LogMel, cutoff_hz: float) -> int:
    """Mel bins that the recording itself fills, below a cutoff; all of them in a full band."""
    if cutoff_hz >= FULL_BAND_HZ:
        return mel.config.n_mels
    return mel.first_bin_above(cutoff_hz * 0.95)
