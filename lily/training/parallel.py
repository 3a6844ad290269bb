"""Several processes training one model: who this one is, and how gradients become one.

``accelerate launch`` and ``torchrun`` say so in the environment (RANK, WORLD_SIZE, MASTER_ADDR).
Every process draws batches of its own; gradients are averaged before each step, so all of them hold
the same weights. Process 0 prepares, saves and reports.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from lily.errors import TrainingError

PATIENCE = timedelta(hours=24)  # the others wait for process 0 to prepare a large corpus

MIXED = {"no": "fp32", "bf16": "bf16"}  # accelerate's names, and ours


def launched_precision() -> str:
    """What ``accelerate launch --mixed_precision`` asks for; raises TrainingError."""
    name = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if name not in MIXED:
        raise TrainingError(
            f"Mixed precision {name!r} is not offered: its gradients underflow without a scaler; "
            f"give {' or '.join(MIXED)}."
        )
    return MIXED[name]


class World:
    """The processes of a run; one alone is a world too."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, device: torch.device) -> World:
        """Join the processes the environment tells of, once per process."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process prepares, saves and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when every process is here."""
        if self.size > 1:
            distributed.barrier()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over processes; one that is missing counts as zero."""
        if self.size == 1:
            return
        wanted = list(parameters)
        for p in wanted:
            if p.grad is None:  # this process' rows had no context, another's may have
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten() for p in wanted if p.grad is not None])
        distributed.all_reduce(flat)
        pieces = (flat / self.size).split([p.numel() for p in wanted])
        for p, piece in zip(wanted, pieces, strict=True):
            assert p.grad is not None
            p.grad.copy_(piece.view_as(p))

    def gather(self, state: Tensor) -> list[Tensor]:
        """Every process' tensor of this shape, in the order of their ranks."""
        if self.size == 1:
            return [state]
        device = torch.device("cpu" if distributed.get_backend() == "gloo" else "cuda")
        places = [torch.empty_like(state, device=device) for _ in range(self.size)]
        distributed.all_gather(places, state.to(device))
        return [place.cpu() for place in places]
