"""Fill a worker's share of recordings in: fetch, hash, upsample in shared batches, deliver.

Every recording ends in a row for the manifest, whatever happens to it. On its way out a result and
its row lie in a folder of their own (see ``lily/batch/manifest.py``), from which the driver clears
them once the manifest has the row.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lily.batch.crossings import Crossings
from lily.batch.manifest import DONE, FAILED, SKIPPED, Row
from lily.batch.places import exists, fetched, joined, sha256
from lily.batch.plan import Job, Request
from lily.certify.metadata import metadata_path
from lily.errors import InputError, LilyError
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Event, Finished, Measured, UpsampleResult
from lily.inference.interleave import Failed, Recording, together

# No space, over quota, read-only: no other recording will fare better.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Advanced:
    """So many seconds of a recording are filled in."""

    input: str
    seconds: float


@dataclass(frozen=True)
class Delivered:
    """A result is in its place: the row that says so, and what can go once that is written."""

    row: Row
    crossing: str = ""


Report = Advanced | Delivered


class ThisProcess:
    """One engine, in the process that drives the batch."""

    largest_first = False  # in the order of their names, as a person looks for them

    def __init__(self, engine: InferenceEngine) -> None:
        self.engine = engine

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Fill in every job's recording; reports each once."""
        return work(self.engine, jobs, request)


def work(engine: InferenceEngine, jobs: Iterable[Job], request: Request) -> Iterator[Report]:
    """Restore every recording; each ends in one ``Delivered``."""
    lengths: dict[Job, float] = {}

    def told(job: Job, event: Event | Failed | Delivered) -> Report | None:
        if isinstance(event, Measured):
            lengths[job] = event.seconds
        elif isinstance(event, ChunksDone):
            return Advanced(job.input, lengths[job] * event.done / event.total)
        elif isinstance(event, Failed):
            lengths.pop(job, None)
            return Delivered(failed(job, event.error))
        elif isinstance(event, Delivered):
            lengths.pop(job, None)
            return event
        return None

    recordings = ((job, _recording(engine, job, request)) for job in jobs)
    for report in together(recordings, engine.sampler, told):
        if report is not None:
            yield report


def failed(job: Job, error: BaseException) -> Row:
    """The row of a recording that could not be filled in."""
    status = SKIPPED if isinstance(error, _Exists) else FAILED
    return {
        "input": job.input,
        "output": job.output,
        "status": status,
        "error": _sentence(error),
        "full_disk": isinstance(error, OSError) and error.errno in FULL,
    }


class _Exists(InputError):
    """There is a file where the result would go."""


def _recording(engine: InferenceEngine, job: Job, request: Request) -> Recording:
    """One recording as the engine's events, then ``Delivered``; leaves nothing if it fails."""
    began = time.perf_counter()
    crossings = Crossings(request.folder)
    arrived = crossings.arrived(job.input)
    if arrived is not None:  # a worker was lost between the result and its report
        yield Delivered(*arrived)  # type: ignore[misc]
        return
    _refuse_taken(job, request, "exists already")
    staging = crossings.begin(job.input)
    try:
        source = fetched(job.input, staging)
        before = os.stat(source)
        digest = sha256(source)
        result: UpsampleResult | None = None
        for event in engine.begin(source, staging / "out", request.options):
            if isinstance(event, Finished):
                result = event.result
            else:
                yield event
        assert result is not None
        if _identity(os.stat(source)) != _identity(before):
            raise InputError(f"{job.input} changed while it was read; run the command again.")
        row = _row(job, result, digest, before.st_size, time.perf_counter() - began)
        _refuse_taken(job, request, "appeared meanwhile")
        crossing = crossings.cross(row, result.output, result.metadata, staging)
    except Exception as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, LilyError | OSError):
            raise
        logging.getLogger(__name__).exception("%s", job.input)
        raise LilyError(f"{type(error).__name__}: {error}") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    yield Delivered(row, crossing)  # type: ignore[misc]


def _refuse_taken(job: Job, request: Request, how: str) -> None:
    """Raise unless the places of the result and its metadata are free, or may be overwritten."""
    if request.overwrite:
        return
    metadata = metadata_path(Path(job.output)).as_posix()
    for name in (job.output, *(() if job.done_before else (metadata,))):
        place = joined(request.folder, name)
        if exists(place):
            raise _Exists(f"{place} {how} and is not overwritten.")


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}."
    return str(error) or type(error).__name__


def _row(
    job: Job, result: UpsampleResult, digest: str, size: int, elapsed: float
) -> dict[str, Any]:
    return {
        "input": job.input,
        "output": job.output,
        "status": DONE,
        "sha256": digest,
        "bytes": size,
        "seconds": round(result.seconds, 3),
        "elapsed_seconds": round(elapsed, 3),
        "cutoff_hz": round(result.cutoff_hz, 1),
        "input_sample_rate": result.input_sample_rate,
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "samples": result.samples,
        "subtype": result.subtype,
        "chunks": result.chunks,
        "seed": result.seed,
        "steps": result.steps,
        "sampler": result.sampler,
        "guidance": result.guidance,
        "encoder": "on" if result.encoder else "off",
        "profile": result.profile,
        "model": result.model,
        "figures": dict(result.figures),
        "metadata": result.metadata and metadata_path(Path(job.output)).as_posix(),
        "checks": [asdict(check) for check in result.checks],
        "message": " ".join(filter(None, [result.message, job.note])),
        "error": "",
    }
