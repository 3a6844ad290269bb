"""Run an engine on a ZeroGPU Space: only its networks, in GPU calls short enough to be granted.

Such a Space lends its GPU to one function for the seconds it asks for; that function runs in a
forked process, and what it changes is lost. So the engine stays in the main process on the CPU,
where it decodes, measures, reads the context (the encoder is small) and writes; the third pass
hands its state and some chunks to a call and takes the state back. Elsewhere nothing of this runs.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lily.config import MEL_FRAMES_PER_LATENT, Config
from lily.device import choose_device, choose_precision
from lily.engine import InferenceEngine
from lily.events import ChunksDone, Sampling
from lily.fill import Filler
from lily.model.latent_diffusion import LatentDiffusion
from lily.weights import load_model

MOST_SECONDS = 100.0  # longer calls are refused to most visitors
START_SECONDS = 10.0  # forking, and bringing 2.7 GB of weights to the GPU
EVALUATION_SECONDS = 0.05  # the full-size U-Net over 10 s of one channel; a guess on the safe side
ROW_SECONDS = 1.0  # encode, decode and vocoder for the same


def engine_maker() -> Callable[[Config], InferenceEngine]:
    """What makes engines here: on a ZeroGPU Space with GPU calls, elsewhere the plain one."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return InferenceEngine
    import spaces

    return GpuCalls(spaces.GPU).engine


class GpuCalls:
    """Makes engines whose third pass runs in calls of one GPU function."""

    def __init__(self, gpu: Callable[..., Callable]) -> None:
        """``gpu`` is ``spaces.GPU``; to be made before the page starts, where it is looked for."""
        self._call = gpu(duration=lambda seconds, *_rest: seconds)(self._push)
        self._held: tuple[Any, LatentDiffusion] | None = None

    def engine(self, config: Config) -> InferenceEngine:
        """An engine on the CPU; its model is what the GPU's process is forked with."""
        engine = InferenceEngine(config, device="cpu")
        engine.filler = partial(_GpuFiller, partial(self._call_with, engine.config))
        self._held = engine.config["weights"], engine.model
        return engine

    def _call_with(
        self, config: Config, seconds: float, state: bytes, frames: np.ndarray
    ) -> Iterator[Any]:
        return self._call(seconds, config, state, frames)

    def _push(
        self, seconds: float, config: Config, state: bytes, frames: np.ndarray
    ) -> Iterator[Any]:
        """In the GPU's process: fill frames (C, l, M); yields events, samples, then the state."""
        device = choose_device("auto")
        if self._held is None or self._held[0] != config["weights"]:  # forked before it was loaded
            self._held = config["weights"], load_model(config)
        model = self._held[1].to(device)
        filler = unpacked(state, model, device, choose_precision("auto", device))
        for made in filler.push(torch.from_numpy(frames)):
            yield made.numpy() if isinstance(made, Tensor) else made
        yield packed(filler, with_context=False)


class _GpuFiller(Filler):
    """A third pass that fills as many chunks in a call as its seconds allow."""

    def __init__(self, call: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._call = call

    def over(self, portions: Iterable[Tensor]) -> Iterator[Tensor | Sampling | ChunksDone]:
        """Take all the recording's frames in portions (C, l, M); yields as ``push`` does."""
        chunks, seconds = call_size(self)
        overlap = self.inference.overlap * MEL_FRAMES_PER_LATENT
        hop = self.inference.chunk * MEL_FRAMES_PER_LATENT - overlap
        for frames in grouped(portions, chunks * hop, overlap):
            for made in self._call(seconds, packed(self), frames.numpy()):
                if isinstance(made, bytes):
                    self._take_back(made)
                else:
                    yield torch.from_numpy(made) if isinstance(made, np.ndarray) else made

    def _take_back(self, state: bytes) -> None:
        kept = self.cache
        filler = unpacked(state, self.model, self.device, self.precision)
        self.__dict__.update(vars(filler))
        self.cache = kept


def call_size(filler: Filler) -> tuple[int, float]:
    """How many chunks go into one call, and the seconds to ask for."""
    settings, longest = filler.settings, 128  # latent frames of the estimate's 10.24 s
    share = filler.inference.chunk / longest
    evaluations = settings.steps * (2 if settings.guidance > 1 else 1)
    chunk = settings.channels * share * (evaluations * EVALUATION_SECONDS + ROW_SECONDS)
    chunks = max(1, int((MOST_SECONDS - START_SECONDS) / chunk))
    chunks = min(chunks, len(filler.chunks))
    return chunks, min(MOST_SECONDS, math.ceil(START_SECONDS + chunks * chunk))


def grouped(portions: Iterable[Tensor], count: int, more: int) -> Iterator[Tensor]:
    """The same frames (C, l, M) in portions of ``count``, the first with ``more``."""
    held: Tensor | None = None
    wanted = count + more  # the first chunk overlaps with none before it
    for frames in portions:
        held = frames if held is None else torch.cat([held, frames], dim=1)
        while held.shape[1] >= wanted:
            yield held[:, :wanted]
            held, wanted = held[:, wanted:], count
    if held is not None and held.shape[1]:
        yield held


def packed(filler: Filler, with_context: bool = True) -> bytes:
    """Everything a filler holds but its networks, by value."""
    bare = Filler.__new__(Filler)
    bare.__dict__.update({k: v for k, v in vars(filler).items() if k != "_call"})
    bare.model, bare.voiced = None, copy(filler.voiced)
    bare.voiced.vocoder = None
    if not with_context:
        bare.cache = None
    return pickle.dumps(bare)


def unpacked(
    state: bytes, model: LatentDiffusion, device: torch.device, precision: torch.dtype
) -> Filler:
    """The filler again, with these networks, on this device."""
    filler: Filler = pickle.loads(state)
    filler.model, filler.voiced.vocoder = model, model.first_stage_model.vocoder
    for part in (filler, filler.voiced):
        part.device, part.precision = device, precision
    if filler.cache is not None:
        cache = filler.cache
        filler.cache = replace(
            cache,
            keys=tuple(key.to(device) for key in cache.keys),
            values=tuple(value.to(device) for value in cache.values),
            valid=None if cache.valid is None else cache.valid.to(device),
        )
    return filler
