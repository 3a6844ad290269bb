"""Plan a recording's chunks, cut them into chunk items, and blend what was generated for them.

Chunks overlap; an item is one channel of one chunk. The sampled log-mels are cross-faded in the
log-mel domain into one continuous log-mel per variant, in order. Only a few chunks are held,
independently of the duration.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from lily.config.inference import InferenceConfig
from lily.config.presets import MEL_FRAMES_PER_LATENT, MelConfig
from lily.diffusion.noise import NoiseField
from lily.dsp.blocks import FrameBuffer
from lily.dsp.chunks import Chunk, crossfade_weights, plan_chunks
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.known_band import KnownBand, KnownShare
from lily.dsp.level import LevelCorrection
from lily.dsp.pair_memory import PairRecall
from lily.dsp.steady_level import SteadyLevel
from lily.dsp.tone_controls import ToneControls
from lily.errors import InputError
from lily.inference.options import Takes, UpsampleOptions
from lily.inference.profiles import Profile
from lily.inference.runtime import Runtime
from lily.inference.sample import ChunkItem, SamplingConfig
from lily.model.attention import LATENT_SECONDS, ContextCache
from lily.model.global_encoder import GlobalContext

HOP = MelConfig().hop  # samples of a log-mel frame


@dataclass(frozen=True)
class Plan:
    """The chunks of a recording, their cross-fade weights and how they are sampled."""

    chunks: Sequence[Chunk]
    weights: Sequence[Tensor]  # (T,) of each chunk
    frames: int  # log-mel frames in all; the last chunk may reach further
    config: SamplingConfig
    fade_seconds: float
    joins: tuple[float, ...]  # seconds: the middles of the cross-fades

    @classmethod
    def of(
        cls,
        frames: int,
        profile: Profile,
        inference: InferenceConfig,
        options: UpsampleOptions,
        conditioned: tuple[bool, ...],
    ) -> Plan:
        """Plan ``frames`` log-mel frames; ``options`` have the preset's defaults filled in."""
        latents = -(-frames // MEL_FRAMES_PER_LATENT)
        config = SamplingConfig(
            length=profile.chunk(latents, inference.chunk),
            steps=options.steps or 0,
            sampler=options.sampler or "",
            guidance=options.guidance or 1.0,
            guided=profile.guided or inference.guided,
            temperature=profile.temperature or inference.temperature,
            draws_low=profile.draws_low,
            conditioned=conditioned,
        )
        chunks = plan_chunks(latents, config.length, inference.overlap)
        middles = (chunk.stop - inference.overlap / 2 for chunk in chunks[:-1])
        return cls(
            chunks=chunks,
            weights=crossfade_weights(
                chunks, inference.fade, MEL_FRAMES_PER_LATENT, inference.overlap
            ),
            frames=frames,
            config=config,
            fade_seconds=inference.fade * LATENT_SECONDS,
            joins=tuple(middle * LATENT_SECONDS for middle in middles),
        )

    def takes(self, takes: Takes, seconds: float) -> dict[int, int]:
        """The seeds of chunks that have one of their own; ``seconds`` is the recording's length.

        A second belongs to the chunk that is heard there: cross-fades are halved. Raises InputError
        for a second past the end and for two takes of one chunk.
        """
        seeds: dict[int, int] = {}
        for second, seed in takes:
            if second >= seconds:
                raise InputError(
                    f"There is no chunk at {second:.10g} s; the recording ends at {seconds:.2f} s."
                )
            chunk = bisect_right(self.joins, second)
            if chunk in seeds:
                raise InputError(
                    f"{second:.10g} s lies in a chunk that has a take already; give one a chunk."
                )
            seeds[chunk] = seed
        return seeds

    def spans(self, seconds: float) -> tuple[tuple[float, float], ...]:
        """Every chunk's (start, stop) in seconds, the last ending with the recording."""
        return tuple(
            (c.start * LATENT_SECONDS, min(c.stop * LATENT_SECONDS, seconds)) for c in self.chunks
        )


@dataclass(frozen=True)
class Variant:
    """What a variant conditions the U-Net with, and what changes the log-mels that it generates."""

    context: ContextCache | None = None
    level: LevelCorrection | None = None
    steady: SteadyLevel | None = None
    recall: PairRecall | None = None
    tone: ToneControls | None = None

    def corrected(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """A channel's ``generated`` (T, M), given its ``low`` (T, M) and cutoffs (T,) in Hz."""
        if self.level:
            generated = self.level.apply(generated, low, cutoffs_hz)
        if self.steady:
            generated = self.steady.apply(generated, low, cutoffs_hz)
        if self.recall:
            generated = self.recall.blend(generated, low, cutoffs_hz)
        return self.tone.apply(generated) if self.tone else generated


def variants_of(
    runtime: Runtime,
    context: GlobalContext | None,
    encoders: Sequence[bool],
    options: UpsampleOptions,
    cutoffs: Cutoffs,
    plain: bool,
) -> list[Variant]:
    """Variants with the encoder off or on; with ``plain`` no levels are corrected but by request.

    An untrained encoder changes no bit, so it recalls and steadies nothing either.
    """
    tables = (runtime.settings.level_db, runtime.settings.colour_db)
    corrects = any(tables) and not plain
    chosen = (options.wall_hz, options.brightness_db)
    off = Variant(
        level=LevelCorrection(*tables, runtime.mel) if corrects else None,
        tone=None if chosen == (None, None) else ToneControls(*chosen, runtime.mel),
    )
    if not any(encoders) or context is None:
        return [off for _ in encoders]
    trained, share = runtime.model.encoder_is_trained, runtime.settings.steady_share
    on = replace(
        off,
        context=runtime.context_cache(context, cutoffs),
        steady=SteadyLevel(share, runtime.mel) if share and trained and not plain else None,
        recall=PairRecall(context.pairs, runtime.mel) if context.pairs and trained else None,
    )
    return [on if encoder else off for encoder in encoders]


class Chunker:
    """Cut a recording's log-mel into items and blend the results, for every variant.

    Variants share the recording's log-mel and the noise; context, recall and corrections differ.
    """

    def __init__(
        self,
        plan: Plan,
        known: KnownBand | KnownShare,
        noise: NoiseField,
        variants: Sequence[Variant],
        cutoffs: Cutoffs,
        channels: int,
        mels: int,
        takes: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """``takes`` are the seeds of chunks whose noise is not that of ``noise``."""
        self._takes = {chunk: noise.with_seed(seed) for chunk, seed in takes.items()}
        self.plan, self.known, self.noise, self.cutoffs = plan, known, noise, cutoffs
        self.variants, self.channels = variants, channels
        self._low = FrameBuffer(channels, mels)
        self._cut = 0  # chunks that were cut from it
        self._blended = [_Blend(plan, channels, mels) for _ in variants]

    @property
    def finished(self) -> int:
        """Chunks that every variant has, from the first on."""
        return min(blend.finished for blend in self._blended)

    @property
    def complete(self) -> bool:
        """Whether every chunk is generated and blended."""
        return self.finished == len(self.plan.chunks)

    @property
    def borrowed_share(self) -> float | None:
        """How much borrowed recordings count above the cutoff, from 0 to 1; None before a chunk."""
        recalls = [variant.recall for variant in self.variants if variant.recall]
        return recalls[-1].borrowed_share if recalls else 0.0

    def append(self, frames: Tensor) -> None:
        """Append band-limited log-mel frames (C, l, M); silence follows the last."""
        self._low.append(frames)
        if self._low.stop >= self.plan.frames:
            self._low.extend_to(self.plan.chunks[-1].stop * MEL_FRAMES_PER_LATENT)

    def chunks(self) -> Iterator[tuple[Chunk, Tensor]]:
        """Every chunk whose frames are complete now, with its log-mels (C, T, M)."""
        while self._cut < len(self.plan.chunks):
            chunk = self.plan.chunks[self._cut]
            start, stop = (n * MEL_FRAMES_PER_LATENT for n in (chunk.start, chunk.stop))
            if stop > self._low.stop:
                return
            log_mels = self._low.read(start, stop)
            self._cut += 1
            if self._cut < len(self.plan.chunks):
                following = self.plan.chunks[self._cut]
                self._low.forget(following.start * MEL_FRAMES_PER_LATENT)
            yield chunk, log_mels

    def items(self, chunk: Chunk, log_mels: Tensor) -> Iterator[ChunkItem]:
        """The items of a chunk, one per channel; a channel that stays as it is needs none."""
        untouched = [c for c in range(self.channels) if self.cutoffs.untouched(c)]
        for channel in untouched:  # before the first item, which may complete the chunk
            for blend in self._blended:
                blend.add(chunk.index, channel, log_mels[channel])
        for channel, log_mel in enumerate(log_mels):
            if channel in untouched:
                continue
            yield ChunkItem(
                chunk.index,
                channel,
                chunk.start,
                log_mel.clone(),  # not a view, which would keep and send the whole buffer
                self._takes.get(chunk.index, self.noise),
                tuple(variant.context for variant in self.variants),
                self.plan.config,
            )

    def add(self, item: ChunkItem, variant: int, log_mel: Tensor) -> None:
        """Take the log-mel (T, M) that was sampled for an item."""
        first = item.start * MEL_FRAMES_PER_LATENT
        centres = (torch.arange(first, first + len(log_mel)) + 0.5) * HOP
        cutoffs_hz = self.cutoffs.of(item.channel).at(centres.long())
        log_mel = self.variants[variant].corrected(log_mel, item.log_mel, cutoffs_hz)
        restored = self.known.restore(log_mel, item.log_mel, cutoffs_hz)
        self._blended[variant].add(item.chunk, item.channel, restored)

    def add_chunk(self, index: int, variant: int, log_mels: Tensor) -> None:
        """Take a whole chunk (C, T, M) that an earlier run has generated."""
        for channel, log_mel in enumerate(log_mels):
            self._blended[variant].add(index, channel, log_mel)

    def blend(self, variant: int) -> Iterator[tuple[int, Tensor]]:
        """Blend the chunks of a variant that are complete, in order; yields each (C, T, M)."""
        return self._blended[variant].blend()

    def take(self) -> Tensor:
        """The blended log-mel (K * C, l, M) of the K variants that no later chunk changes."""
        if self.complete:
            stop = self.plan.frames
        else:
            stop = self.plan.chunks[self.finished].start * MEL_FRAMES_PER_LATENT
        return torch.cat([blend.take(stop) for blend in self._blended])


class _Blend:
    """The chunks of one variant, cross-faded into a continuous log-mel."""

    def __init__(self, plan: Plan, channels: int, mels: int) -> None:
        self.plan, self.channels = plan, channels
        self.finished = 0  # chunks that are blended
        self._waiting: dict[int, dict[int, Tensor]] = {}  # by chunk and channel
        self._frames = FrameBuffer(channels, mels)

    def add(self, chunk: int, channel: int, log_mel: Tensor) -> None:
        self._waiting.setdefault(chunk, {})[channel] = log_mel

    def blend(self) -> Iterator[tuple[int, Tensor]]:
        while len(self._waiting.get(self.finished, ())) == self.channels:
            index = self.finished
            channels = self._waiting.pop(index)
            log_mels = torch.stack([channels[c] for c in range(self.channels)])
            start = self.plan.chunks[index].start * MEL_FRAMES_PER_LATENT
            self._frames.add(start, log_mels * self.plan.weights[index][:, None])
            self.finished += 1
            yield index, log_mels

    def take(self, stop: int) -> Tensor:
        """Return the frames (C, l, M) before ``stop`` and drop them."""
        frames = self._frames.read(self._frames.start, max(stop, self._frames.start))
        self._frames.forget(max(stop, self._frames.start))
        return frames
