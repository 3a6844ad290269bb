"""Run an engine on a ZeroGPU Space: only its networks, in GPU calls short enough to be granted.

Such a Space lends its GPU to one function for the seconds it asks for; that function runs in a
forked process, and what it changes is lost. So the engine stays in the main process on the CPU,
where it decodes, measures, reads the context (the encoder is small) and writes; the third pass
hands its state and some chunks to a call and takes the state back. Elsewhere nothing of this runs.
"""

from __future__ import annotations

import io
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lily.checkpoints.model_folder import load_model
from lily.config.presets import MEL_FRAMES_PER_LATENT, Config
from lily.inference.device import choose_device, choose_precision, place
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Sampling
from lily.inference.generate import Filler
from lily.inference.interleave import alone
from lily.inference.sample import RowSampler
from lily.inference.vocode import VoicedStream
from lily.model.attention import ContextCache
from lily.model.latent_diffusion import LatentDiffusion

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
        engine.filler = partial(_GpuFiller, partial(_call, self._call, engine.config))
        self._held = engine.config["weights"], engine.model
        return engine

    def _push(
        self,
        seconds: float,
        config: Config,
        state: bytes,
        caches: bytes,
        frames: np.ndarray,
    ) -> Iterator[Any]:
        """In the GPU's process: fill frames (C, l, M); yields steps, and all else with the state.

        So whenever the run is stopped, the other side has the state that belongs to what it got.
        """
        device = choose_device("auto")
        if self._held is None or self._held[0] != config["weights"]:  # forked before it was loaded
            self._held = config["weights"], load_model(config)
        precision = choose_precision("auto", device)
        model = place(self._held[1], device, precision)
        crossing = Crossing(model, [on_device(c, device) for c in pickle.loads(caches)])
        filler = crossing.unpack(state, device, precision)
        sampler = RowSampler(model, filler.inference, device, precision)
        for made in alone(filler.over([torch.from_numpy(frames)]), sampler):
            told = made.numpy() if isinstance(made, Tensor) else made
            yield told if isinstance(made, Sampling) else (crossing.pack(filler), told)
        yield crossing.pack(filler), None


def _call(call: Callable[..., Iterator[Any]], config: Config, seconds: float, *rest: Any) -> Any:
    return call(seconds, config, *rest)


class _GpuFiller(Filler):
    """A third pass that fills as many chunks in a call as its seconds allow."""

    def __init__(self, call: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._call = call

    def over(self, portions: Iterable[Tensor]) -> Iterator[Tensor | Sampling | ChunksDone]:
        """Take all the recording's frames in portions (C, l, M); yields samples and events."""
        chunks, seconds = call_size(self)
        overlap = self.inference.overlap * MEL_FRAMES_PER_LATENT
        hop = self.inference.chunk * MEL_FRAMES_PER_LATENT - overlap
        for frames in grouped(portions, chunks * hop, overlap):
            crossing = Crossing(self.model)
            state = crossing.pack(self)
            caches = pickle.dumps(crossing.caches)
            for made in self._call(seconds, state, caches, frames.numpy()):
                if isinstance(made, tuple):
                    now, made = made
                    self.__dict__ |= vars(crossing.unpack(now, self.device, self.precision))
                if made is not None:
                    yield torch.from_numpy(made) if isinstance(made, np.ndarray) else made


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


class Crossing:
    """A filler's state as bytes: by value, but for the networks and the contexts' keys and values.

    Those are named, and the other side has its own.
    """

    def __init__(self, model: LatentDiffusion, caches: Sequence[ContextCache] = ()) -> None:
        """``caches`` are this side's, in the order in which the other side's ``pack`` met them."""
        self.model = model
        self.caches = list(caches)

    def pack(self, filler: Filler) -> bytes:
        """The filler's state."""
        names = {id(module): name for name, module in self.model.named_modules()}
        crossing, buffer = self, io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, value: Any) -> tuple[str, str | int] | None:
                if id(value) in names:
                    return "network", names[id(value)]
                return (
                    ("cache", crossing._place(value)) if isinstance(value, ContextCache) else None
                )

        state = {k: v for k, v in vars(filler).items() if k not in ("_call", "device", "precision")}
        Pickler(buffer).dump(state)
        return buffer.getvalue()

    def unpack(self, state: bytes, device: torch.device, precision: torch.dtype) -> Filler:
        """A plain filler in that state, with this side's networks, on this device."""
        crossing = self

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, name: tuple[str, Any]) -> Any:
                kind, key = name
                network = kind == "network"
                return crossing.model.get_submodule(key) if network else crossing.caches[key]

        filler = Filler.__new__(Filler)
        filler.__dict__ |= Unpickler(io.BytesIO(state)).load()
        filler.device, filler.precision = device, precision
        for part in _parts(filler):
            if isinstance(part, VoicedStream):
                part.device, part.precision = device, precision
        return filler

    def _place(self, cache: ContextCache) -> int:
        for index, known in enumerate(self.caches):
            if known is cache:
                return index
        self.caches.append(cache)
        return len(self.caches) - 1


def _parts(value: Any) -> Iterator[Any]:
    """Every object a filler is made of, down to tensors and networks."""
    if isinstance(value, Tensor | nn.Module):
        return
    if isinstance(value, list | tuple):
        inner = list(value)
    else:
        inner = (
            list(value.values())
            if isinstance(value, dict)
            else list(getattr(value, "__dict__", {}).values())
        )
    yield value
    for part in inner:
        yield from _parts(part)


def on_device(cache: ContextCache, device: torch.device) -> ContextCache:
    """A context's keys and values on a device."""
    return replace(
        cache,
        keys=tuple(key.to(device) for key in cache.keys),
        values=tuple(value.to(device) for value in cache.values),
        valid=None if cache.valid is None else cache.valid.to(device),
    )
