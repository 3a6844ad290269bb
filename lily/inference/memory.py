"""Say how much memory a run will take before it starts, how many rows fit, and who may stay.

The prediction runs the networks on tensors that have a shape and no numbers, and counts the bytes
that would be alive at once; nothing is allocated. Libraries and a convolution's workspace come on
top of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lily.checkpoints.model_folder import load_model
from lily.config.inference import InferenceConfig
from lily.config.presets import MEL_FRAMES_PER_LATENT, Config
from lily.config.sections import build
from lily.inference.device import place
from lily.inference.vocode import VOCODER_FRAMES
from lily.model.latent_diffusion import LatentDiffusion
from lily.model.vocoder import HALO

HOP = 480  # samples a log-mel frame

GPU_ROWS = 8  # a GPU is half idle at one row of 5 s; past some rows it gains nothing more
SHARE = 0.8  # of a GPU's memory that a plan may fill: fragments and workspaces take some


def foretold(
    config: Config,
    settings: InferenceConfig,
    device: torch.device,
    precision: torch.dtype,
    low_memory: bool,
) -> int | None:
    """Bytes that tensors will take at most on the device; None for a small model on a CPU.

    There it is a tenth of what libraries take, and a short run would wait a second for it.
    """
    if device.type == "cpu" and not settings.large:
        return None
    return predict(config, precision, settings.batch, alone=low_memory)["peak"]


def predict(
    config: Config,
    precision: torch.dtype,
    rows: int = 1,
    guided: bool = True,
    alone: bool = False,
) -> dict[str, int]:
    """Bytes of the weights, of each network's activations over ``rows`` chunks, and at the peak.

    ``alone``: the peak of one network at a time on the device, with nothing but its own weights.
    """
    settings = build(InferenceConfig, config["inference"], "inference")
    with torch.device("meta"):
        model = LatentDiffusion(**config["model"]["params"]).eval().requires_grad_(False)
    model.to("meta")  # the vocoder's tables are numbers anywhere
    first = model.first_stage_model
    frames, bins = settings.chunk * MEL_FRAMES_PER_LATENT, first.config.bins
    latent = (rows * (2 if guided else 1), 2 * model.channels, settings.chunk, bins)
    count = VOCODER_FRAMES + 2 * HALO
    calls: dict[str, Callable[[], Any]] = {
        "vae_encode": lambda: model.low_posterior(_empty(rows, frames, first.config.mel_bins)),
        "unet": lambda: model.unet(_empty(*latent), _empty(latent[0])),
        "vae_decode": lambda: model.decode(_empty(rows, model.channels, settings.chunk, bins)),
        "vocoder": lambda: first.vocoder(
            _empty(1, first.config.mel_bins, count), _empty(1, count * HOP)
        ),
    }
    found = {}
    for name, call in calls.items():
        with _Alive() as alive, torch.no_grad():
            call()
        # The vocoder's largest features are float32 in any precision.
        halves = 1 if name == "vocoder" or precision is torch.float32 else 2
        found[name] = alive.most // halves
    if precision is not torch.float32:
        model.lower(precision)
    weights = _bytes(model)
    peak = weights + max(found.values())
    if alone:
        parts = _networks(model)
        peak = max(_bytes(parts[name]) + size for name, size in found.items())
    return {"weights": weights, **found, "peak": peak}


def housed(
    config: Config,
    settings: InferenceConfig,
    device: torch.device,
    precision: torch.dtype,
    low_memory: bool,
) -> tuple[LatentDiffusion, InferenceConfig]:
    """Load the model to where it runs; the settings with the rows that are sampled together.

    ``low_memory`` keeps one network at a time on the device, and one row in it.
    """
    if not low_memory:
        rows = rows_for(config, settings, device, precision)
        return place(load_model(config), device, precision), replace(settings, batch=rows)
    model = place(load_model(config), torch.device("cpu"), precision)
    Residency(model, device)  # held by its hooks on the networks
    return model, replace(settings, batch=1)


def rows_for(
    config: Config, settings: InferenceConfig, device: torch.device, precision: torch.dtype
) -> int:
    """Rows sampled together: the preset's on a CPU, on a GPU as many as its memory holds.

    A function of the model, the machine and the precision, never of the work, so that the same seed
    gives the same bits whatever else there is to do.
    """
    if device.type != "cuda":
        return settings.batch
    return fitting(config, precision, torch.cuda.get_device_properties(device).total_memory)


def fitting(config: Config, precision: torch.dtype, memory: int) -> int:
    """The most rows, a power of two up to ``GPU_ROWS``, whose prediction fits ``memory`` bytes."""
    rows = GPU_ROWS
    while rows > 1 and predict(config, precision, rows)["peak"] > SHARE * memory:
        rows //= 2
    return rows


class Residency:
    """Keeps one network at a time on the device, the others in the main memory.

    What reads the context stays: it is small, and called between the networks.
    """

    def __init__(self, model: LatentDiffusion, device: torch.device) -> None:
        self.device, self.here = device, ""
        unet = model.unet
        model.to(device)
        self._kept = set() if unet.global_encoder is None else set(unet.global_encoder.modules())
        self._kept |= {layer for m in unet.conditioned() for layer in m.once_a_recording()}
        self._parts = _networks(model)
        for name, part in self._parts.items():
            self._move(part, torch.device("cpu"))
            part.register_forward_pre_hook(self._entered(name))

    def _entered(self, name: str) -> Callable[[nn.Module, object], None]:
        def enter(part: nn.Module, _inputs: object) -> None:
            if self.here != name:
                if self.here:
                    self._move(self._parts[self.here], torch.device("cpu"))
                self._move(part, self.device)
                self.here = name

        return enter

    def _move(self, part: nn.Module, device: torch.device) -> None:
        for module in part.modules():
            if module not in self._kept:
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    tensor.data = tensor.data.to(device)


class _Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._held[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        gone = [key for key, (reference, _) in self._held.items() if reference.expired()]
        for key in gone:
            del self._held[key]
        self.most = max(self.most, sum(size for _, size in self._held.values()))
        return out


def _networks(model: LatentDiffusion) -> dict[str, nn.Module]:
    first = model.first_stage_model
    return {
        "vae_encode": first.encoder,
        "unet": model.unet,
        "vae_decode": first.decoder,
        "vocoder": first.vocoder,
    }


def _bytes(network: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in network.state_dict().values())


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")
