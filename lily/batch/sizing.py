"""Decide how many workers a cluster gets, and each one's share of its cores, GPUs and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lily.errors import InputError

ENGINE_BYTES = 1 << 30  # torch, decoders and one batch; measured 0.7 GiB with lily-mini
WEIGHT_COPIES = 2  # of the weights, while they are loaded
MEMORY_SHARE = 0.8  # of a machine's memory that workers may plan with


@dataclass(frozen=True)
class Sizing:
    """How many workers, and each one's share."""

    workers: int
    threads: int
    gpus: float  # of a worker; less than 1 where several share one
    memory: int  # bytes


def sized(
    nodes: Sequence[Mapping[str, float]], weights: int, workers: int | None, threads: int | None
) -> Sizing:
    """One worker a GPU; without GPUs, one a CPU core, as far as memory holds their weights.

    ``nodes`` are each machine's CPU, GPU and memory: a worker lies within one of them, and where
    there are GPUs, on one that has some. Single threads waste nothing on waiting for each other.
    ``weights`` is in bytes; what is given is taken. Raises InputError if it does not fit.

    >>> sized([{"CPU": 16, "memory": 8 << 30}], 1 << 30, None, None).workers
    2
    """
    nodes = [node for node in nodes if node.get("GPU")] or nodes
    memory = ENGINE_BYTES + WEIGHT_COPIES * weights
    held = [int(MEMORY_SHARE * node.get("memory", 0.0) / memory) for node in nodes]
    gpus = sum(int(node.get("GPU", 0.0)) for node in nodes)
    share = 1 / math.ceil((workers or gpus) / gpus) if gpus else 0.0

    def places(threads: int) -> list[int]:
        """How many workers each node has cores and GPUs for."""
        cores = [int(node.get("CPU", 0.0)) // threads for node in nodes]
        if not gpus:
            return cores
        return [min(c, round(int(n["GPU"]) / share)) for c, n in zip(cores, nodes, strict=True)]

    if workers is None:
        most = [min(pair) for pair in zip(places(threads or 1), held, strict=True)]
        workers = max(1, sum(most))
    if threads is None:
        most_cores = max(int(node.get("CPU", 0.0)) for node in nodes)
        fitting = [t for t in range(1, most_cores + 1) if sum(places(t)) >= workers]
        threads = max(fitting, default=1)
    if workers < 1 or threads < 1 or sum(places(threads)) < workers:
        cores = ", ".join(f"{int(node.get('CPU', 0.0))}" for node in nodes)
        raise InputError(
            f"{workers} workers with {threads} threads each do not fit the cluster's {cores} CPU "
            "cores; give fewer."
        )
    # Memory that was asked for explicitly is the asker's business: Ray would wait for ever.
    fits = sum(min(pair) for pair in zip(places(threads), held, strict=True)) >= workers
    return Sizing(workers, threads, share, memory if fits else 0)
