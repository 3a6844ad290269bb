"""A loaded model on its device, and what a run needs to know about it: values that go down."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lily.config.inference import InferenceConfig
from lily.config.presets import Config
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.level import at_cutoff
from lily.dsp.mel import LogMel
from lily.inference.sample import Sampler
from lily.model.attention import ContextCache
from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import LatentDiffusion

KNOWS_FROM = 1.2  # x the lowest cutoff: a part that ends there has highs that others lack


@dataclass(frozen=True)
class Runtime:
    """What the runs of one engine share."""

    name: str  # of the model
    config: Config
    weights_sha256: tuple[str, ...]  # of each file, a base before its adapter
    model: LatentDiffusion
    mel: LogMel
    settings: InferenceConfig
    device: torch.device
    precision: torch.dtype
    sampler: Sampler
    memory: int | None  # bytes that tensors will take at most; None for a small model

    @property
    def sample_rate(self) -> int:
        """The rate of every output, in Hz."""
        return self.mel.config.sample_rate

    def context_cache(self, context: GlobalContext, cutoffs: Cutoffs) -> ContextCache:
        """The keys and values of a context for every transformer, on the device.

        Where no part of the recording ends clearly above the lowest cutoff, the encoder can only
        guess and counts as much as the preset says for that cutoff; elsewhere in full.
        """
        with torch.inference_mode():
            return self.model.unet.context_cache(context).scaled(self._strength(cutoffs))

    def _strength(self, cutoffs: Cutoffs) -> float:
        table = self.settings.context_strength
        if not table or cutoffs.distinct_hz[-1] >= KNOWS_FROM * cutoffs.lowest_hz:
            return 1.0
        rows = [(hz, torch.tensor(share)) for hz, share in table]
        return float(at_cutoff(rows, cutoffs.lowest_hz))
