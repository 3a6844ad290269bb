"""Sample chunk items, of any recordings, in batches of a fixed shape.

An item carries everything its samples depend on: the band-limited log-mel, its place, the noise and
the contexts of its recording. So items of different recordings can share a batch, on any worker,
and each gets the samples it would get alone. A short batch is padded. If memory runs out, the batch
is halved for the lifetime of the sampler and ``reduced`` says so: the last bits of the samples may
differ from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from lily.config.inference import InferenceConfig
from lily.diffusion.guidance import guided
from lily.diffusion.noise import POSTERIOR, NoiseField
from lily.diffusion.samplers import sample
from lily.errors import OutOfMemory
from lily.inference.device import (
    is_out_of_memory,
    network_mode,
    operator_missing,
    processor,
    release_memory,
)
from lily.model.attention import LATENT_SECONDS, Conditioning, ContextCache, RowContexts
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion


@dataclass(frozen=True)
class SamplingConfig:
    """How chunks are sampled; items whose configurations are equal may share a batch."""

    length: int  # latent frames of a chunk
    steps: int
    sampler: str
    guidance: float
    guided: tuple[int, int]  # training times, of 1000, from and below which guidance acts
    temperature: float  # scale of the initial noise
    draws_low: bool  # the low-pass latent is a draw from the posterior instead of its mean
    conditioned: tuple[bool, ...]  # of each variant: whether it has a context

    @property
    def variants(self) -> int:
        """How often each item is sampled: once, or with the encoder off and on."""
        return len(self.conditioned)

    def guidance_at(self, time: int) -> float:
        """Guidance scale at this timestep; 1.0 (no unconditional pass) outside the interval."""
        first, end = self.guided
        return self.guidance if first <= time < end else 1.0


@dataclass(frozen=True, eq=False)
class ChunkItem:
    """One channel of one chunk, to be sampled."""

    chunk: int  # index in its recording's plan
    channel: int
    start: int  # latent frame of the recording
    log_mel: Tensor  # (T, M), band-limited, of the configuration's length
    noise: NoiseField
    contexts: tuple[ContextCache | None, ...]  # one per variant
    config: SamplingConfig


@dataclass(frozen=True)
class SampledStep:
    """Some items of a batch have finished a step of a variant; after the last, their log-mels."""

    items: Sequence[int]  # places in the batch
    variant: int
    step: int
    log_mels: Tensor | None = None  # (B, T, M), float32 on the CPU


class Sampler(Protocol):
    """What samples batches: the networks in this process, or those on a lent GPU."""

    @property
    def facts(self) -> tuple[str, ...]:
        """What the last bits of the samples depend on besides the items and the weights."""
        ...

    @property
    def reduced(self) -> str:
        """What a result should say after memory ran out; empty otherwise."""
        ...

    def batch_size(self, config: SamplingConfig) -> int:
        """Items that should be collected before ``steps`` is called."""
        ...

    def steps(self, items: Sequence[ChunkItem]) -> Iterator[SampledStep]:
        """Sample items of one configuration, variant by variant; yields every step."""
        ...


class ChunkSampler:
    """The networks from an item's band-limited log-mel to the generated one."""

    def __init__(
        self,
        model: LatentDiffusion,
        inference: InferenceConfig,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.model, self.inference = model, inference
        self.device, self.precision = device, precision
        self.batch = inference.batch  # items the networks take at once; halved if memory is short

    @property
    def facts(self) -> tuple[str, ...]:
        """What the last bits of the samples depend on besides the items and the weights."""
        place = str(self.device), processor(self.device), str(self.precision)
        return (torch.__version__, *place, str(torch.get_num_threads()), str(self.batch))

    @property
    def reduced(self) -> str:
        """What a result should say after memory ran out; empty otherwise."""
        if self.batch == self.inference.batch:
            return ""
        return (
            f"Memory ran out with {self.inference.batch} chunks in a batch, so {self.batch} were "
            "taken: samples may differ from those of a full batch in their last bits."
        )

    def batch_size(self, _config: SamplingConfig) -> int:
        """Items that should be collected before ``steps`` is called."""
        return self.inference.batch

    def steps(self, items: Sequence[ChunkItem]) -> Iterator[SampledStep]:
        """Sample items of one configuration, variant by variant; yields every step.

        Raises OutOfMemory if not even a single item fits.
        """
        low = torch.cat(list(self._in_parts(items, self._encode)))
        for variant in range(items[0].config.variants):
            yield from self._in_parts(items, partial(self._sample, low, variant))

    def _in_parts(
        self, items: Sequence[ChunkItem], work: Callable[[Sequence[ChunkItem], range], Iterator]
    ) -> Iterator:
        """Yield from ``work(items, places)`` for as many places at once as fit into memory.

        If memory runs out, the part starts over in halves.
        """
        done = 0
        while done < len(items):
            places = range(done, min(done + self.batch, len(items)))
            try:
                yield from work(items, places)
                done = places.stop
            except NotImplementedError as error:
                raise operator_missing(error, self.device) from error
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            # Not inside the handler, whose traceback still holds the tensors.
            if self.reduced:
                release_memory(self.device)

    def _halve(self, error: BaseException) -> None:
        if self.batch == 1:
            seconds = self.inference.chunk * LATENT_SECONDS
            raise OutOfMemory(
                f"The memory of {self.device} does not hold one chunk of {seconds:.2f} s; close "
                "other programs, give --precision bf16 or choose a smaller model."
            ) from error
        self.batch = max(1, self.batch // 2)

    def _padded(self, places: range) -> list[int]:
        """The places of a batch of the fixed shape: the first stands in for what is missing."""
        return [*places, *[places.start] * (self.batch - len(places))]

    def _encode(self, items: Sequence[ChunkItem], places: range) -> Iterator[Tensor]:
        """Encode a part to the low-pass latents (B, z, L, M') that condition every variant."""
        batch = [items[place] for place in self._padded(places)]
        with network_mode(self.device, self.precision):
            log_mels = torch.stack([item.log_mel for item in batch])
            posterior = self.model.low_posterior(log_mels.to(self.device))
            if batch[0].config.draws_low:
                low = posterior.at(_noise(batch, POSTERIOR)).float()
            else:
                low = posterior.mean.float()
        yield low[: len(places)]

    def _sample(
        self, low: Tensor, variant: int, items: Sequence[ChunkItem], places: range
    ) -> Iterator[SampledStep]:
        """Sample a part of a batch for a variant, then decode it."""
        padded = self._padded(places)
        batch, low = [items[place] for place in padded], low[padded]
        config = batch[0].config
        predict = partial(self.model.predict_v, conditioning=self._conditioning(batch, variant))

        def predict_guided(x: Tensor, t: Tensor) -> Tensor:
            with network_mode(self.device, self.precision):
                return guided(predict, x, low, t, UNCONDITIONAL, config.guidance_at(int(t[0])))

        latent = low
        for step, x in sample(
            predict_guided,
            lambda step: _noise(batch, step) * (1.0 if step else config.temperature),
            sampler=config.sampler,
            steps=config.steps,
            device=self.device,
        ):
            latent = x
            yield SampledStep(places, variant, step + 1)
        with network_mode(self.device, self.precision):
            log_mels = self.model.decode(latent).float().cpu()[: len(places)]
        yield SampledStep(places, variant, config.steps, log_mels)

    def _conditioning(self, batch: Sequence[ChunkItem], variant: int) -> Conditioning | None:
        caches = [item.contexts[variant] for item in batch]
        known = tuple(cache for cache in caches if cache is not None)
        if not known:
            return None
        seconds = torch.tensor([item.start for item in batch], dtype=torch.float64) * LATENT_SECONDS
        return Conditioning(RowContexts(known), seconds)


def _noise(batch: Sequence[ChunkItem], step: int) -> Tensor:
    """Noise (B, z, L, M') of a step, each item's of its own recording and place."""
    drawn = [item.noise.latent(step, [item.start], item.config.length) for item in batch]
    return torch.cat(drawn)
