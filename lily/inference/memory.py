"""How much memory a run takes, and how many items a GPU samples together.

Only models of AudioSR's size (``inference.large``) need a prediction: a small one takes less than
the libraries do. The table was measured for the networks of ``audiosr-basic``, which all of them
share; ``lily bench`` prints the prediction beside the peak that it measures.
"""

from __future__ import annotations

import torch

from lily.config.inference import InferenceConfig

# Peak of the tensors that are alive in MiB, weights included, for a batch of so many items of
# 10.24 s under guidance. Workspaces of libraries come on top: docs/benchmarks.md, "Memory".
AUDIOSR_MIB = {
    torch.float32: {1: 3_446, 2: 4_214, 4: 5_752, 8: 8_827},
    torch.bfloat16: {1: 1_758, 2: 2_142, 4: 2_911, 8: 4_449},
}
GPU_ITEMS = max(AUDIOSR_MIB[torch.float32])  # beyond, a GPU gains nothing more
SHARE = 0.8  # of a GPU's memory that a prediction may fill: workspaces and fragments take the rest


def predicted_bytes(settings: InferenceConfig, precision: torch.dtype) -> int | None:
    """Bytes of tensors at the peak of a run; None for a small model or a batch not in the table."""
    table = AUDIOSR_MIB[torch.float32 if precision is torch.float32 else torch.bfloat16]
    items = min((count for count in table if count >= settings.batch), default=None)
    return table[items] * 2**20 if settings.large and items else None


def items_for(settings: InferenceConfig, device: torch.device, precision: torch.dtype) -> int:
    """Items sampled together: the preset's on a CPU, on a GPU as many as its memory holds.

    A function of model, machine and precision, never of the recordings, so that the same seed gives
    the same bits in every batch.
    """
    if device.type != "cuda":
        return settings.batch
    return fitting(settings, precision, torch.cuda.get_device_properties(device).total_memory)


def fitting(settings: InferenceConfig, precision: torch.dtype, memory: int) -> int:
    """The most items of the table whose prediction fits ``memory`` bytes, 1 at least."""
    if not settings.large:
        return GPU_ITEMS
    table = AUDIOSR_MIB[torch.float32 if precision is torch.float32 else torch.bfloat16]
    return max((n for n, mib in table.items() if mib * 2**20 <= SHARE * memory), default=1)
