"""Sampling tells the conditioning when each chunk starts, in seconds of the recording."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lily.inference.sample import ChunkSampler


@pytest.mark.parametrize("starts", [(0,), (0, 56, 56, 5_600)])
def test_every_item_reads_its_context_at_its_own_place(starts):
    """A latent frame is 80 ms: 8 mel frames of 480 samples at 48 kHz."""
    sampler = object.__new__(ChunkSampler)
    sampler.device = torch.device("cpu")
    items = [SimpleNamespace(start=start, contexts=(None, "context")) for start in starts]
    made = sampler._conditioning(items, 1)
    assert made.starts.dtype == torch.float64
    assert made.starts.tolist() == pytest.approx([0.08 * start for start in starts], abs=1e-12)
    assert sampler._conditioning(items, 0) is None
