"""Fill one recording in: band-limited log-mel frames in, generated samples out, in order.

The recording is cut into rows (one chunk of one channel), which whoever drives it has sampled
(``sample.py``, ``interleave.py``). Their log-mels are blended in the log-mel domain and the vocoder
runs over the continuous result in fixed blocks with a halo. What is held is a few chunks, whatever
the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.config.inference import InferenceConfig
from lily.config.presets import MEL_FRAMES_PER_LATENT
from lily.diffusion.noise import NoiseField
from lily.dsp.audiosr import share_index
from lily.dsp.blocks import FrameBuffer
from lily.dsp.chunks import Chunk, crossfade_weights, plan_chunks
from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.inference.events import ChunksDone
from lily.inference.profiles import Profile
from lily.inference.resume import KeptChunks
from lily.inference.sample import Manner, Row
from lily.inference.vocode import VoicedStream
from lily.model.attention import LATENT_SECONDS, ContextCache
from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import LatentDiffusion


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


@dataclass(frozen=True, eq=False)
class Pending:
    """A row and where its log-mel belongs."""

    chunk: Chunk
    channel: int
    row: Row


@dataclass(frozen=True)
class Waiting:
    """A recording has rows to be sampled; gone on with before that, it reads more of its input."""

    filler: Filler


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
        length = settings.profile.chunk(latents, inference.chunk)  # latent frames a chunk
        self.manner = Manner(
            length=length,
            steps=settings.steps,
            sampler=settings.sampler,
            guidance=settings.guidance,
            guided=settings.profile.guided or inference.guided,
            draws_low=settings.profile.draws_low,
            takes=tuple(context is not None for context in contexts),
        )
        self.chunks = plan_chunks(latents, length, inference.overlap)
        self.weights = crossfade_weights(
            self.chunks, inference.fade, MEL_FRAMES_PER_LATENT, inference.overlap
        )
        self._known_bins = {hz: _known_bins(mel, hz) for hz in settings.cutoffs.hz}
        autoencoder = model.first_stage_model.config
        self.noise = NoiseField(settings.seed, model.channels, autoencoder.bins)
        self.pending: list[Pending] = []  # rows that are cut and not sampled; taken from the front
        self._low = FrameBuffer(settings.channels, mel.config.n_mels)
        self._takes = [self._take(context) for context in contexts]
        self._cut = 0  # chunks whose rows were taken from the input
        self.kept: KeptChunks | None = None  # asked for finished chunks, and told of them

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

    @property
    def complete(self) -> bool:
        """Whether every row has been cut."""
        return self._cut == len(self.chunks)

    @property
    def reads_on(self) -> bool:
        """Whether more input should be read before a row is sampled.

        Not where it has ended, nor where kept chunks wait behind a row: their number would grow.
        """
        return not self.complete and self._cut - self.finished <= self.inference.batch

    def spans(self) -> tuple[tuple[float, float], ...]:
        """Every chunk's (start, stop) in seconds, the last ending with the recording."""
        end = self.settings.samples / self.mel.config.sample_rate
        return tuple(
            (c.start * LATENT_SECONDS, min(c.stop * LATENT_SECONDS, end)) for c in self.chunks
        )

    def joins(self) -> tuple[tuple[float, ...], float]:
        """Middles of the cross-fades between chunks, and their length, in seconds."""
        middles = (chunk.stop - self.inference.overlap / 2 for chunk in self.chunks[:-1])
        return tuple(m * LATENT_SECONDS for m in middles), self.inference.fade * LATENT_SECONDS

    def over(self, portions: Iterable[Tensor]) -> Iterator[Tensor | ChunksDone | Waiting]:
        """Take the recording's band-limited frames in portions (C, l, M).

        Yields samples (K, C, n) in order, a block for each of the K takes; what an earlier run had
        finished; and ``Waiting`` where it has rows: whoever goes on has sampled some of them and
        given them to ``receive``, or wants more of the input read, while there is more.
        """
        for frames in portions:
            self._push(frames)
            before = self.finished
            yield from filter(None, map(self.blend, range(len(self._takes))))
            if self.finished > before:
                yield from self._voice(last=self.finished == len(self.chunks))
            while self.pending:
                before = len(self.pending)
                yield Waiting(self)
                if len(self.pending) == before:  # none was taken: read on
                    break
                yield from self._voice(last=self.finished == len(self.chunks))

    def rest(self) -> Iterator[Tensor]:
        """After an early end: the samples (K, C, n) of every finished chunk that are still due."""
        yield from self._voice(last=True)

    def receive(self, pending: Pending, take: int, log_mel: Tensor) -> None:
        """Take the log-mel (T, M) that was sampled for a row."""
        results = self._takes[take].results.setdefault(pending.chunk.index, {})
        results[pending.channel] = self._replaced(log_mel, pending)

    def blend(self, take: int) -> ChunksDone | None:
        """Add a take's finished chunks to its continuous log-mel, in order; tells which."""
        made, finished = self._takes[take], []
        while len(made.results.get(made.blended, ())) == self.settings.channels:
            chunk, weight = self.chunks[made.blended], self.weights[made.blended]
            channels = made.results.pop(made.blended)
            log_mel = torch.stack([channels[c] for c in range(self.settings.channels)])
            if self.kept:
                self.kept.keep(take, chunk.index, log_mel)
            made.made.add(chunk.start * MEL_FRAMES_PER_LATENT, log_mel * weight[:, None])
            finished.append(made.blended)
            made.blended += 1
        if not finished:
            return None
        return ChunksDone(tuple(finished), made.blended, len(self.chunks), take)

    def _push(self, frames: Tensor) -> None:
        """Append frames (C, l, M) and cut the rows they complete; silence follows the last.

        Chunks that an earlier run has finished need no rows.
        """
        self._low.append(frames)
        if self._low.stop >= self.frames:
            self._low.extend_to(self.chunks[-1].stop * MEL_FRAMES_PER_LATENT)
        contexts = tuple(take.cache for take in self._takes)
        while not self.complete:
            chunk = self.chunks[self._cut]
            start, stop = (n * MEL_FRAMES_PER_LATENT for n in (chunk.start, chunk.stop))
            if stop > self._low.stop:
                return
            log_mels = self._low.read(start, stop)
            kept = self.kept.find(chunk.index, log_mels) if self.kept else None
            for take, made in zip(self._takes, kept or (), strict=False):
                take.results[chunk.index] = dict(enumerate(made))
            for channel, log_mel in enumerate(log_mels if kept is None else ()):
                row = Row(log_mel, chunk.start, self.noise, contexts, self.manner)
                self.pending.append(Pending(chunk, channel, row))
            self._cut += 1
            if not self.complete:
                self._low.forget(self.chunks[self._cut].start * MEL_FRAMES_PER_LATENT)

    def _replaced(self, made: Tensor, pending: Pending) -> Tensor:
        """Put what is known back: the bins below the cutoff, and silence where there is silence.

        Source of the first: AudioSR ``ddpm.py: mel_replace_ops``.
        """
        low, first = pending.row.log_mel, pending.chunk.start * MEL_FRAMES_PER_LATENT
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


def _known_bins(mel: LogMel, cutoff_hz: float) -> int:
    """Mel bins that the recording itself fills, below a cutoff; all of them in a full band."""
    if cutoff_hz >= FULL_BAND_HZ:
        return mel.config.n_mels
    return mel.first_bin_above(cutoff_hz * 0.95)
