"""Sample rows: one channel of one chunk each, of any recordings, in batches of a fixed shape.

A row carries all that its bits depend on: the band-limited log-mel, its place, the noise field and
the contexts of its recording. So rows of different recordings fill a batch together, on any worker,
and each gets what it would get alone. A short batch is padded. Where memory runs out the shape is
halved for as long as the sampler lives, which ``reduced`` tells: bits may differ from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.config.inference import InferenceConfig
from lily.diffusion.guidance import guided
from lily.diffusion.noise import POSTERIOR, NoiseField
from lily.diffusion.samplers import sample
from lily.errors import OutOfMemory
from lily.inference.vocode import Networks
from lily.model.attention import LATENT_SECONDS, Conditioning, ContextCache, RowContexts
from lily.model.latent_diffusion import UNCONDITIONAL, LatentDiffusion

# What torch's allocator on a CPU says; on a GPU it raises an error of its own class.
CPU_ALLOCATOR = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Manner:
    """How rows are sampled; those that share a batch share it."""

    length: int  # latent frames of a chunk
    steps: int
    sampler: str
    guidance: float
    guided: tuple[int, int]  # times of 1000 from and below which it acts
    draws_low: bool  # the low-pass latent is a draw of the posterior, not its mean
    takes: tuple[bool, ...]  # of each take: whether it knows a context

    def guidance_at(self, time: int) -> float:
        """Its strength there; 1.0, where no unconditional branch is evaluated, outside of them."""
        first, end = self.guided
        return self.guidance if first <= time < end else 1.0


@dataclass(frozen=True, eq=False)
class Row:
    """One channel of one chunk, waiting to be sampled."""

    log_mel: Tensor  # (T, M), band-limited, of the manner's length
    start: int  # latent frame of the recording
    noise: NoiseField
    contexts: tuple[ContextCache | None, ...]  # one a take
    manner: Manner


@dataclass(frozen=True)
class Sampled:
    """A batch has finished a step of a take; after the last, its log-mels (B, T, M) are here."""

    take: int
    step: int
    log_mels: Tensor | None = None  # float32 on the CPU, one for each row


class RowSampler:
    """The networks between a row's log-mel and the generated one, and how many rows fit at once."""

    def __init__(
        self,
        model: LatentDiffusion,
        inference: InferenceConfig,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.model, self.inference = model, inference
        self.device, self.precision = device, precision
        self.wanted = inference.batch  # rows that share a batch
        self.batch = inference.batch  # rows the networks take at once; less where memory is short

    @property
    def reduced(self) -> str:
        """What a result should say after memory ran out, or an empty string."""
        if self.batch == self.wanted:
            return ""
        return (
            f"Memory ran out with {self.wanted} rows at once, so {self.batch} were taken: samples "
            "may differ from those of a full batch in their last bits."
        )

    def run(self, rows: Sequence[Row]) -> Iterator[Sampled]:
        """Sample at most ``wanted`` rows of one manner, take by take.

        Raises OutOfMemory if there is none for a single row.
        """
        low: list[Tensor] = []
        for part in self._parts(rows, lambda part: iter([self._encoded(part)])):
            low.append(part)
        lows = dict(zip(map(id, rows), torch.cat(low), strict=True))
        for take in range(len(rows[0].manner.takes)):
            made: list[Tensor] = []

            def sampled(part: Sequence[Row], take: int = take) -> Iterator[int | Tensor]:
                low = torch.stack([lows[id(row)] for row in self._padded(part)])
                return self._sample(part, low, take)

            for step in self._parts(rows, sampled):
                if isinstance(step, Tensor):
                    made.append(step)
                else:
                    yield Sampled(take, step)
            yield Sampled(take, rows[0].manner.steps, torch.cat(made))

    def _parts(
        self, rows: Sequence[Row], work: Callable[[Sequence[Row]], Iterator]
    ) -> Iterator[Tensor | int]:
        """What ``work`` yields for as many rows at once as memory allows; a part may begin anew."""
        done = 0
        while done < len(rows):
            part = rows[done : done + self.batch]
            try:
                yield from work(part)
                done += len(part)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                self._halve(error)
            # Outside of the handler, whose traceback still held the tensors.
            if self.device.type == "cuda" and self.reduced:
                torch.cuda.empty_cache()

    def _halve(self, error: BaseException) -> None:
        if self.batch == 1:
            seconds = self.inference.chunk * LATENT_SECONDS
            raise OutOfMemory(
                f"The memory of {self.device} does not hold one chunk of {seconds:.2f} s; close "
                "other programs, give --precision bf16 or choose a smaller model."
            ) from error
        self.batch = max(1, self.batch // 2)

    def _padded(self, rows: Sequence[Row]) -> list[Row]:
        return [*rows, *[rows[0]] * (self.batch - len(rows))]

    def _encoded(self, rows: Sequence[Row]) -> Tensor:
        """The latents (B, z, L, M') that every take of a batch is conditioned by."""
        padded = self._padded(rows)
        with self._networks():
            log_mels = torch.stack([row.log_mel for row in padded])
            posterior = self.model.low_posterior(log_mels.to(self.device))
            if rows[0].manner.draws_low:
                low = posterior.at(_noise(padded, POSTERIOR)).float()
            else:
                low = posterior.mean.float()
            return low[: len(rows)]

    def _sample(self, rows: Sequence[Row], low: Tensor, take: int) -> Iterator[int | Tensor]:
        """Sample a batch for a take: its step after each, then its decoded log-mels (B, T, M)."""
        manner, padded = rows[0].manner, self._padded(rows)
        conditioning = self._conditioning(padded, take)

        def predict(x: Tensor, t: Tensor, low: Tensor) -> Tensor:
            with self._networks():
                return self.model.predict_v(x, low, t, conditioning)

        steps = sample(
            lambda x, t: guided(predict, x, t, low, UNCONDITIONAL, manner.guidance_at(int(t[0]))),
            lambda step: _noise(padded, step),
            sampler=manner.sampler,
            steps=manner.steps,
            device=self.device,
        )
        latent = low
        for step, x in steps:
            latent = x
            yield step + 1
        with self._networks():
            yield self.model.decode(latent).float().cpu()[: len(rows)]

    def _conditioning(self, rows: Sequence[Row], take: int) -> Conditioning | None:
        caches = [row.contexts[take] for row in rows]
        known = tuple(cache for cache in caches if cache is not None)
        if not known:
            return None
        seconds = torch.tensor([row.start for row in rows], dtype=torch.float64) * LATENT_SECONDS
        return Conditioning(RowContexts(known), seconds.to(self.device))

    def _networks(self) -> Networks:
        return Networks(self.device, self.precision)


def _noise(rows: Sequence[Row], step: int) -> Tensor:
    """Noise (B, z, L, M') of a step, each row's of its own recording and place."""
    drawn = [row.noise.latent(step, [row.start], row.manner.length) for row in rows]
    return torch.cat(drawn)


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in CPU_ALLOCATOR)
