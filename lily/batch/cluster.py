"""Spread a batch over Ray: actors that hold an engine each, on this machine or on a cluster.

Only this file imports Ray. Recordings are handed out in bundles whose rows share batches. What a
lost worker had is tried again, each recording alone, so that one that brings workers down is found.
A recording larger than a worker's fair share is split: one worker owns it, the others sample its
rows, which depend on nothing but themselves. Every worker has the same number of threads.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lily.batch.bundles import Bundle, Queue
from lily.batch.plan import Job, Request
from lily.batch.sizing import sized
from lily.batch.work import Advanced, Delivered, Report, failed, work
from lily.checkpoints.model_folder import WEIGHTS
from lily.checkpoints.resolve import resolve_config, with_weights
from lily.errors import InputError, LilyError
from lily.inference.engine import InferenceEngine
from lily.inference.sample import Row, Sampled
from lily.model.attention import ContextCache

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as error:
    raise InputError(
        "--ray needs Ray, which is not installed here; pip install 'lily-audio[cluster]'."
    ) from error

log = logging.getLogger(__name__)

BUNDLES_AHEAD = 2  # a worker's: the next is there when one ends
PATIENCE = 60.0  # seconds until it is told that workers are being waited for
TRIES = 3  # after which a recording that was lost with its worker is given up
SPLIT_BYTES = 4 << 20  # smaller recordings are never split: they take seconds
STORE_BYTES = 256 << 20  # Ray's shared memory, for contexts and rows of split recordings


@dataclass(frozen=True)
class Model:
    """What a worker needs to know to load the same model on its own machine."""

    preset: str
    weights: str | None
    device: str
    precision: str
    low_memory: bool = False


class Worker:
    """An engine in a process of its own; Ray runs one call at a time."""

    def __init__(self, model: Model, threads: int) -> None:
        torch.set_num_threads(threads)
        config = with_weights(resolve_config(model.preset, model.weights))
        self.engine = InferenceEngine(config, model.device, model.precision, model.low_memory)
        self._contexts: dict[Any, ContextCache] = {}

    def ready(self) -> int:
        """Answers once the model is loaded: rows of a batch."""
        return self.engine.sampler.wanted

    def work(self, jobs: list[Job], request: Request, helpers: list[Any]) -> Iterator[Report]:
        """Fill in a bundle; ``helpers`` are workers that sample rows meanwhile."""
        sampler = Spread(self.engine, helpers) if helpers else None
        yield from work(self.engine, jobs, request, sampler)

    def sample(self, rows: list[Row], contexts: list[Any]) -> list[Tensor]:
        """The log-mels (B, T, M) of each take; ``contexts`` stand for those left out of rows."""
        self._contexts = {
            ref: self._contexts.get(ref) or ray.get(ref) for ref in dict.fromkeys(contexts) if ref
        }
        device = self.engine.device
        known = tuple(on_device(self._contexts[ref], device) if ref else None for ref in contexts)
        whole = [replace(row, contexts=known) for row in rows]
        made = [step.log_mels for step in self.engine.sampler.run(whole)]
        return [log_mels for log_mels in made if log_mels is not None]


def on_device(cache: ContextCache, device: torch.device) -> ContextCache:
    """A context's keys and values where the networks are."""
    return replace(
        cache,
        keys=tuple(key.to(device) for key in cache.keys),
        values=tuple(value.to(device) for value in cache.values),
    )


class Spread:
    """Samples the rows of one recording on several workers at once, each in its own batches."""

    def __init__(self, engine: InferenceEngine, helpers: Sequence[Any]) -> None:
        self.engine, self.helpers = engine, list(helpers)
        self._refs: dict[int, Any] = {}

    @property
    def wanted(self) -> int:
        """Rows that keep every worker busy."""
        return self.engine.sampler.wanted * (1 + len(self.helpers))

    def run(self, rows: list[Row]) -> Iterator[Sampled]:
        """Sample rows of one recording, take by take; what a lost helper had is done here."""
        each = self.engine.sampler.wanted
        own, rest = rows[:each], [rows[n : n + each] for n in range(each, len(rows), each)]
        asked = [
            (helper, part, helper.sample.remote(*self._without_contexts(part)))
            for helper, part in zip(self.helpers, rest, strict=False)
        ]
        parts = [self._here(own)]
        for helper, part, answer in asked:
            try:
                parts.append(ray.get(answer))
            except RayActorError:
                self.helpers.remove(helper)
                parts.append(self._here(part))
        for part in rest[len(asked) :]:  # more than there are helpers left
            parts.append(self._here(part))
        manner = rows[0].manner
        for take in range(len(manner.takes)):
            yield Sampled(take, manner.steps, torch.cat([part[take] for part in parts]))

    def _here(self, rows: list[Row]) -> list[Tensor]:
        made = [step.log_mels for step in self.engine.sampler.run(rows)]
        return [log_mels for log_mels in made if log_mels is not None]

    def _without_contexts(self, rows: list[Row]) -> tuple[list[Row], list[Any]]:
        """Rows without their contexts, which are many megabytes and cross once."""
        cpu = torch.device("cpu")
        refs = []
        for cache in rows[0].contexts:
            if cache is not None and id(cache) not in self._refs:
                self._refs = {id(cache): ray.put(on_device(cache, cpu)), **self._refs}
            refs.append(None if cache is None else self._refs[id(cache)])
        return [replace(row, contexts=()) for row in rows], refs


class Cluster:
    """Ray's workers as those of a batch."""

    largest_first = True

    def __init__(
        self, model: Model, address: str, workers: int | None = None, threads: int | None = None
    ) -> None:
        """``address`` is a cluster's; empty starts Ray on this machine, until the end."""
        self.model, self.address = model, address
        self.asked = workers, threads
        self._actors: list[Any] = []

    def __enter__(self) -> Cluster:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
        if self.address:
            try:
                _answers(self.address)
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
            except (OSError, RayError, ValueError) as error:
                raise InputError(f"No Ray cluster answers at {self.address}: {error}") from error
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=STORE_BYTES,
            )
        config = with_weights(resolve_config(self.model.preset, self.model.weights))
        weights = (Path(config["weights"]["folder"]) / WEIGHTS).stat().st_size
        self.sizing = sized(_machines(), weights, *self.asked)
        self._actors = [self._actor() for _ in range(self.sizing.workers)]
        try:
            self._wait_until_ready()
        except RayError as error:
            self.__exit__()
            raise InputError(f"A worker cannot load the model: {_last_line(error)}") from error
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
        ray.shutdown()

    def _wait_until_ready(self) -> None:
        """Wait until every worker has loaded the model, and say so where that takes long."""
        waiting = [actor.ready.remote() for actor in self._actors]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE)
            ray.get(ready)
            if waiting:
                log.warning(
                    "Still waiting for %d of %d workers, each with %d CPU cores and %g GPUs: they "
                    "load the model, or others use the cluster.",
                    len(waiting),
                    len(self._actors),
                    self.sizing.threads,
                    self.sizing.gpus,
                )

    def _actor(self) -> Any:
        size = self.sizing
        made = ray.remote(
            num_cpus=size.threads,
            num_gpus=size.gpus,
            memory=size.memory or None,
            max_restarts=-1,
            max_task_retries=0,
        )(Worker)
        return made.remote(self.model, size.threads)

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Fill in every job's recording; reports each once."""
        jobs = iter(jobs)
        rest: list[Job] = []
        for job in jobs:
            if job.size < max(SPLIT_BYTES, size / len(self._actors)) or len(self._actors) < 2:
                rest.append(job)
                break
            owner, *helpers = self._actors
            size -= job.size
            yield from self._gathered(Queue(iter([job])), request, [owner], helpers)
        queue = Queue(_chained(rest, jobs), size, len(self._actors))
        yield from self._gathered(queue, request, self._actors, [])

    def _gathered(
        self, queue: Queue, request: Request, actors: list[Any], helpers: list[Any]
    ) -> Iterator[Report]:
        """Keep the actors busy until the queue is empty."""
        under_way: dict[Any, Bundle] = {}
        busy = [0] * len(actors)
        while True:
            for worker in sorted(range(len(actors)), key=busy.__getitem__) * BUNDLES_AHEAD:
                alone = bool(queue.lost)
                # What was lost waits for a worker that has nothing else, which then gets nothing
                # else: if it takes its worker down, no other recording goes with it.
                if busy[worker] >= (1 if alone else BUNDLES_AHEAD):
                    continue
                if bundle := [queue.lost.popleft()] if alone else queue.bundle():
                    call = actors[worker].work.options(num_returns="streaming")
                    reports = call.remote(bundle, request, helpers)
                    jobs = {job.input: job for job in bundle}
                    under_way[reports] = Bundle(worker, jobs, alone)
                    busy[worker] += BUNDLES_AHEAD if alone else 1
            if not under_way:
                return
            ready, _ = ray.wait(list(under_way), num_returns=1, timeout=1.0)
            for reports in ready:
                bundle = under_way[reports]
                try:
                    report = ray.get(next(reports))
                except StopIteration:
                    report = None
                except RayError as error:
                    yield from self._lost(queue, bundle, error)
                    report = None
                if report is None:
                    del under_way[reports]
                    busy[bundle.worker] -= BUNDLES_AHEAD if bundle.alone else 1
                    continue
                if isinstance(report, Delivered):
                    bundle.jobs.pop(report.row["input"], None)
                yield report

    def _lost(self, queue: Queue, bundle: Bundle, error: RayError) -> Iterator[Report]:
        """Queue what a lost worker had not reported once more; give up what is lost each time."""
        for job in bundle.jobs.values():
            queue.tries[job.input] = queue.tries.get(job.input, 0) + bundle.alone
            if bundle.alone and not isinstance(error, RayActorError):  # its own, or it would work
                yield Delivered(failed(job, LilyError(_last_line(error))))
            elif queue.tries[job.input] < TRIES:
                yield Advanced(job.input, 0.0)
                queue.lost.append(job)
            else:
                reason = LilyError(
                    f"Its worker was lost {TRIES} times; it may need more memory than there is."
                )
                yield Delivered(failed(job, reason))


def _machines() -> list[dict[str, float]]:
    """What each of the cluster's machines has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _answers(address: str) -> None:
    """Raise OSError if nobody listens at host:port: Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _chained(first: list[Job], rest: Iterator[Job]) -> Iterator[Job]:
    yield from first
    yield from rest
