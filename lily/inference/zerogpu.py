"""Run an engine on a ZeroGPU Space: batches are sampled in GPU calls short enough to be granted.

Such a Space lends its GPU to one function for the seconds it asks for. The function runs in a
forked process, and what it changes is lost. So the engine stays in the main process on the CPU,
where it reads, vocodes and writes; a GPU call is sent chunk items and returns their log-mels.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from lily.checkpoints.model_folder import load_model
from lily.config.inference import InferenceConfig
from lily.config.presets import Config
from lily.inference.device import choose_device, choose_precision, place
from lily.inference.engine import InferenceEngine
from lily.inference.sample import ChunkItem, ChunkSampler, SampledStep, SamplingConfig
from lily.model.latent_diffusion import LatentDiffusion

MOST_SECONDS = 100.0  # longer calls are refused to most visitors
START_SECONDS = 10.0  # forking, and bringing 2.7 GB of weights to the GPU
# For 10.24 s of one channel, the full-size model; generous guesses, as a GPU was not at hand.
EVALUATION_SECONDS = 0.05  # the U-Net
ITEM_SECONDS = 0.5  # encode and decode
REFERENCE_FRAMES = 128  # latent frames of those 10.24 s


def engine_maker() -> Callable[[Config], InferenceEngine]:
    """What makes engines: on a ZeroGPU Space with GPU calls, elsewhere the plain class."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return InferenceEngine
    import spaces

    return GpuCalls(spaces.GPU).engine


class GpuCalls:
    """Makes engines that sample in calls of one GPU function."""

    def __init__(self, gpu: Callable[..., Callable]) -> None:
        """``gpu`` is ``spaces.GPU``; make this before the page starts, where it is looked for."""
        self._call = gpu(duration=lambda seconds, *_rest: seconds)(self._sample)
        self._loaded: tuple[Any, LatentDiffusion] | None = None  # weights section, model

    def engine(self, config: Config) -> InferenceEngine:
        """An engine on the CPU; the GPU's process is forked with its model."""
        engine = InferenceEngine(config, device="cpu")
        engine.sampler = GpuSampler(self._call, engine.config, engine.settings)
        self._loaded = engine.config["weights"], engine.model
        return engine

    def _sample(
        self, _seconds: float, config: Config, inference: InferenceConfig, pickled: bytes
    ) -> Iterator[SampledStep]:
        """In the GPU's process: sample the pickled items; log-mels are NumPy arrays."""
        if self._loaded is None or self._loaded[0] != config["weights"]:  # forked before loading
            # As the engine's model, so that every process computes with the same layers.
            model = place(load_model(config), torch.device("cpu"), torch.float32)
            self._loaded = config["weights"], model
        device = choose_device("auto")
        precision = choose_precision("auto", device)
        model = place(self._loaded[1], device, precision)
        sampler = ChunkSampler(model, inference, device, precision)
        items = _on_device(pickle.loads(pickled), device)
        size = sampler.batch_size(items[0].config)
        for first in range(0, len(items), size):
            for step in sampler.steps(items[first : first + size]):
                places = [first + place for place in step.items]
                log_mels = None if step.log_mels is None else step.log_mels.numpy()
                yield replace(step, items=places, log_mels=log_mels)


class GpuSampler:
    """Samples as many items in a GPU call as its seconds allow."""

    reduced = ""  # a call that runs out of memory is not remembered

    def __init__(
        self, call: Callable[..., Iterator[SampledStep]], config: Config, inference: InferenceConfig
    ) -> None:
        self._call, self.config, self.inference = call, config, inference

    @property
    def facts(self) -> tuple[str, ...]:
        """What the last bits of the samples depend on besides the items and the weights."""
        return torch.__version__, "ZeroGPU", str(self.inference.batch)

    def batch_size(self, config: SamplingConfig) -> int:
        """Items that one GPU call can sample."""
        return max(1, int((MOST_SECONDS - START_SECONDS) / item_seconds(config)))

    def steps(self, items: Sequence[ChunkItem]) -> Iterator[SampledStep]:
        """Sample items of one configuration in a GPU call; yields every step."""
        seconds = START_SECONDS + len(items) * item_seconds(items[0].config)
        seconds = min(MOST_SECONDS, math.ceil(seconds))
        for step in self._call(seconds, self.config, self.inference, pickle.dumps(list(items))):
            log_mels = None if step.log_mels is None else torch.from_numpy(step.log_mels)
            yield replace(step, log_mels=log_mels)


def item_seconds(config: SamplingConfig) -> float:
    """The GPU seconds to ask for per item."""
    evaluations = config.steps * config.variants * (2 if config.guidance > 1 else 1)
    share = config.length / REFERENCE_FRAMES
    return share * (evaluations * EVALUATION_SECONDS + ITEM_SECONDS)


def _on_device(items: Sequence[ChunkItem], device: torch.device) -> list[ChunkItem]:
    """The items with their contexts, most of which they share, on the device."""
    known = {id(cache): cache for item in items for cache in item.contexts if cache is not None}
    moved = {key: cache.to(device) for key, cache in known.items()} | {id(None): None}
    return [
        replace(item, contexts=tuple(moved[id(cache)] for cache in item.contexts)) for item in items
    ]
