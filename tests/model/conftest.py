"""Small networks with seeded weights, and contexts to condition them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lily.model.global_encoder import GlobalContext
from lily.model.latent_diffusion import LatentDiffusion

SPACING = 0.08  # seconds between the tokens of `make_context`


@pytest.fixture(scope="session")
def seeded() -> Callable[..., Any]:
    """``seeded(build, seed=0)``: a network with weights of its own; no global seed is moved."""

    def make(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build().eval()

    return make


@pytest.fixture(scope="session")
def wake() -> Callable[..., None]:
    """``wake(module, asleep="")``: layers that start at zero get weights, but for those named."""

    def fill(module: nn.Module, asleep: str = "nothing") -> None:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if not parameter.any() and asleep not in name:
                    parameter.normal_(0, 0.1, generator=generator)

    return fill


@pytest.fixture
def make_model(
    tiny_config: dict[str, Any], seeded: Callable[..., Any]
) -> Callable[..., LatentDiffusion]:
    """``make_model(use_global_encoder=...)``: the tiny preset, its U-Net settings changed."""

    def make(seed: int = 0, **unet: Any) -> LatentDiffusion:
        params = tiny_config["model"]["params"]
        params["unet_config"]["params"].update(unet)
        return seeded(lambda: LatentDiffusion(**params), seed)

    return make


@pytest.fixture
def make_context(randn: Callable[..., Tensor]) -> Callable[..., GlobalContext]:
    """``make_context(rows, tokens)``: random tokens 0.08 s apart."""

    def make(rows: int = 1, tokens: int = 60, width: int = 32) -> GlobalContext:
        times = (torch.arange(tokens, dtype=torch.float64) + 0.5) * SPACING
        return GlobalContext(
            vector=randn(rows, width),
            tokens=randn(rows, tokens, width),
            times=times.expand(rows, tokens),
            spacing=SPACING,
        )

    return make
