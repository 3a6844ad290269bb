"""Run a batch on Ray, on this machine or on a cluster: one engine per actor.

Only this module imports Ray. Ray places the actors by the CPUs, GPUs and memory that each asks for.
A worker gets a bundle of recordings, which share its batches. If its process dies, a new worker
takes its place and the recordings of that bundle are tried again one at a time, so that a recording
that kills workers is identified and given up alone.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lily.batch.plan import Job, Request
from lily.batch.progress import Advanced, Delivered, Report
from lily.batch.work import failed, work
from lily.checkpoints.folder_config import WEIGHTS
from lily.checkpoints.resolve import resolve_config, with_weights
from lily.errors import InputError, LilyError
from lily.inference.engine import InferenceEngine

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise InputError(
        "--ray needs Ray, which is not installed here; pip install 'lily-audio[cluster]'."
    ) from error

log = logging.getLogger(__name__)

BUNDLE_FILES = 8  # enough to fill batches with short clips, and all that one lost worker loses
BUNDLE_BYTES = 32 << 20  # a long recording is a bundle of its own
SHARES = 4  # a bundle is at most this fraction of a worker's share of the rest: all end together
LOSSES = 3  # workers that one recording may cost
STARTS = 3  # tries to start Ray, and workers in a row that may die while they load the model
PATIENCE = 60.0  # seconds without an answer, after which the wait is reported
ENGINE_BYTES = 1 << 30  # torch, decoders and one batch; measured 0.7 GiB with lily-mini
WEIGHT_COPIES = 2  # of the weights in memory while they are loaded
STORE_BYTES = 256 << 20  # Ray's shared memory on this machine; reports are all that passes it


@dataclass(frozen=True)
class Model:
    """What a worker needs to load the same model on its own machine."""

    preset: str
    weights: str | None
    device: str
    precision: str


class Worker:
    """An engine in a process of its own; Ray runs one call at a time."""

    def load(self, model: Model, threads: int) -> None:
        """Load the model; not in ``__init__``, so that errors arrive as what they are."""
        torch.set_num_threads(threads)
        config = with_weights(resolve_config(model.preset, model.weights))
        self.engine = InferenceEngine(config, model.device, model.precision)

    def work(self, jobs: list[Job], request: Request) -> Iterator[Report]:
        """Restore a bundle of recordings."""
        yield from work(self.engine, jobs, request)


@dataclass
class Queue:
    """Recordings without a worker; those whose worker died come first, each as its own bundle."""

    jobs: Iterator[Job]
    size: int  # bytes of the recordings that have not been handed out
    workers: int
    retries: deque[Job] = field(default_factory=deque)

    def bundle(self) -> list[Job]:
        """The next recordings for one worker; empty if none are left."""
        if self.retries:
            return [self.retries.popleft()]
        limit = min(BUNDLE_BYTES, self.size // (SHARES * self.workers))
        taken: list[Job] = []
        for job in self.jobs:
            taken.append(job)
            self.size -= job.size
            if len(taken) == BUNDLE_FILES or sum(j.size for j in taken) >= limit:
                break
        return taken


@dataclass
class Call:
    """What a worker is doing: loading the model, or a bundle, of which ``jobs`` are left."""

    worker: Any
    jobs: dict[str, Job] | None = None
    alone: bool = False


class Cluster:
    """Ray actors as the workers of a batch."""

    largest_first = True  # so that no long recording is left for the end

    def __init__(
        self, model: Model, address: str, workers: int | None = None, threads: int | None = None
    ) -> None:
        """``address`` is a cluster's host:port; empty starts Ray on this machine.

        ``workers`` defaults to one per GPU or, without GPUs, to one per ``threads`` CPU cores, of
        which as many start as memory holds; ``threads`` (CPU threads of each) defaults to 1.
        """
        self.model, self.address, self.asked = model, address, workers
        self.threads = threads or 1
        self._idle: list[Any] = []
        self._calls: dict[Any, Call] = {}  # by the reference that Ray returned for it
        self._starts = 0  # since a worker was ready

    def __enter__(self) -> Cluster:
        _connect(self.address)
        try:
            self._options = self._resources()
            for _ in range(self.workers):
                self._start()
            while not self._idle:  # before the output folder is touched
                self._loaded(*self._next())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        ray.shutdown()  # ends the actors of this driver, on a cluster too

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Restore every recording; each ends in one ``Delivered``."""
        queue = Queue(iter(jobs), size, self.workers)
        losses: Counter[str] = Counter()
        bundle = queue.bundle()
        while bundle or any(call.jobs is not None for call in self._calls.values()):
            if bundle and self._idle:
                self._assign(bundle, request, alone=bundle[0].input in losses)
                bundle = queue.bundle()
                continue
            reference, call = self._next()
            if call.jobs is None:
                self._loaded(reference, call)
            else:
                yield from self._reports(reference, call, queue, losses)
            bundle = bundle or queue.bundle()

    def _resources(self) -> dict[str, Any]:
        """What each actor asks Ray for; sets the number of workers."""
        total = ray.cluster_resources()
        gpus = 0 if self.model.device == "cpu" else int(total.get("GPU", 0))
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes())
        if not 1 <= self.threads <= largest:
            raise InputError(
                f"--threads {self.threads}: a worker can have 1 to {largest} CPU threads here."
            )
        self.workers = self.asked or gpus or max(1, int(total.get("CPU", 1)) // self.threads)
        resources: dict[str, Any] = {"num_cpus": self.threads, "max_restarts": 0}
        if gpus:
            resources["num_gpus"] = 1 / math.ceil(self.workers / gpus)
        if self.asked is None:
            config = with_weights(resolve_config(self.model.preset, self.model.weights))
            weights = (Path(config["weights"]["folder"]) / WEIGHTS).stat().st_size
            resources["memory"] = ENGINE_BYTES + WEIGHT_COPIES * weights
        return resources

    def _start(self) -> None:
        """Create an actor. Ray's own restarts are off: calls to a restarting actor would fail."""
        worker = ray.remote(**self._options)(Worker).remote()
        self._calls[worker.load.remote(self.model, self.threads)] = Call(worker)

    def _next(self) -> tuple[Any, Call]:
        """Wait for news of a worker."""
        while True:
            ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE)
            if ready:
                return ready[0], self._calls[ready[0]]
            if all(call.jobs is None for call in self._calls.values()):
                log.warning(
                    "Waiting for workers, each with %d CPU cores, %.2g GPUs and %.1f GB: they load "
                    "the model, or the cluster is busy.",
                    self.threads,
                    self._options.get("num_gpus", 0),
                    self._options.get("memory", 0) / 1e9,
                )

    def _loaded(self, reference: Any, call: Call) -> None:
        del self._calls[reference]
        try:
            ray.get(reference)
        except RayTaskError as error:
            raise InputError(f"A worker cannot load the model: {_last_line(error)}") from error
        except RayError as error:
            self._starts += 1
            if self._starts == STARTS:
                raise InputError(
                    f"{STARTS} workers in a row died while loading the model; they may need more "
                    f"memory than there is: {_last_line(error)}"
                ) from error
            self._start()
        else:
            self._starts = 0
            self._idle.append(call.worker)

    def _assign(self, bundle: list[Job], request: Request, alone: bool) -> None:
        worker = self._idle.pop()
        reports = worker.work.options(num_returns="streaming").remote(bundle, request)
        self._calls[reports] = Call(worker, {job.input: job for job in bundle}, alone)

    def _reports(
        self, reports: Any, call: Call, queue: Queue, losses: Counter[str]
    ) -> Iterator[Report]:
        """Pass on the next report of a bundle, or deal with its end."""
        assert call.jobs is not None
        try:
            report = ray.get(next(reports))
        except StopIteration:
            self._idle.append(call.worker)
            del self._calls[reports]
            return
        except RayError as error:
            del self._calls[reports]
            worker_lives = isinstance(error, RayTaskError)
            if worker_lives:
                self._idle.append(call.worker)
            else:
                ray.kill(call.worker)  # in case only the connection was lost
                self._start()
            for job in call.jobs.values():
                losses[job.input] += call.alone
                if not call.alone or (not worker_lives and losses[job.input] < LOSSES):
                    yield Advanced(job.input, 0.0)
                    queue.retries.append(job)
                    continue
                reason = _last_line(error)
                if not worker_lives:
                    reason = f"Its worker died {LOSSES} times; it may need more memory than is free"
                yield failed(job, LilyError(f"{reason.removesuffix('.')}."))
            return
        if isinstance(report, Delivered):
            call.jobs.pop(report.row["input"], None)
        yield report


def _connect(address: str) -> None:
    """Join the cluster at an address, or start Ray on this machine until the batch ends."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends nothing to Ray's makers
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        _start_local({**options, "include_dashboard": False, "object_store_memory": STORE_BYTES})
        return
    try:
        _check_listening(address)
        ray.init(address=address, **options)
    except (OSError, RayError, ValueError) as error:
        raise InputError(f"No Ray cluster answers at {address}: {error}") from error


def _start_local(options: dict[str, Any]) -> None:
    """Start Ray on this machine; it gives up after 30 s, which a loaded machine may exceed."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # its 15 starves workers beside other work
    for attempt in range(STARTS):
        try:
            ray.init(address="local", **options)
            return
        except Exception as error:  # what Ray raises then has no class of its own
            ray.shutdown()
            if attempt == STARTS - 1:
                raise InputError(f"Ray cannot be started here: {_last_line(error)}") from error


def _check_listening(address: str) -> None:
    """Raise OSError if no server listens at host:port; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
