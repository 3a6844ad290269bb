"""Decide how many workers a cluster gets, and each one's share of its cores, GPUs and memory."""

from __future__ import annotations

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
    resources: dict[str, float], weights: int, workers: int | None, threads: int | None
) -> Sizing:
    """One worker a GPU; without GPUs, one a CPU core, as far as memory holds their weights.

    Single threads waste nothing on waiting for each other. ``weights`` is in bytes; what is given
    is taken. Raises InputError if it does not fit the cluster.

    >>> sized({"CPU": 16, "memory": 8 << 30}, 1 << 30, None, None).workers
    2
    """
    cpus, gpus = int(resources.get("CPU", 1)), resources.get("GPU", 0.0)
    memory = ENGINE_BYTES + WEIGHT_COPIES * weights
    hold = max(1, int(MEMORY_SHARE * resources.get("memory", memory) / memory))
    if workers is None:
        most = int(gpus) if gpus else cpus // (threads or 1)
        workers = max(1, min(most, hold, cpus))
    if threads is None:
        threads = max(1, cpus // workers)
    if workers < 1 or threads < 1 or workers * threads > cpus:
        raise InputError(
            f"{workers} workers with {threads} threads each do not fit the cluster's {cpus} CPU "
            "cores; give fewer."
        )
    # Memory that was asked for explicitly is the asker's business: Ray would wait for ever.
    return Sizing(
        workers, threads, gpus / workers if gpus else 0.0, memory if workers <= hold else 0
    )
