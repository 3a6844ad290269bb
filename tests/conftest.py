"""What every test may use: the tiny preset and seeded random tensors. No file, no network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lily.config.presets import load_config

# One thread: the machine is shared, and bit equality should not hang on how work is split.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _tiny() -> dict[str, Any]:
    return load_config("tiny")


@pytest.fixture
def tiny_config(_tiny: dict[str, Any]) -> dict[str, Any]:
    """The tests' preset, a copy that may be changed."""
    return copy.deepcopy(_tiny)


@pytest.fixture
def randn() -> Callable[..., Tensor]:
    """``randn(*shape)`` from one generator a test, always the same numbers."""
    generator = torch.Generator().manual_seed(20)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests, of every folder: one process takes one Playwright."""
    from browser import CHROMIUM, FLAGS

    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
