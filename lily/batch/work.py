"""Restore a worker's share of the recordings: download, hash, upsample in shared batches, commit.

Every recording ends in a row of the manifest, also one that failed.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lily.batch.commit import Staging, digest_of
from lily.batch.manifest import DONE, FAILED, SKIPPED, STATE, Row
from lily.batch.plan import Job, Request
from lily.batch.progress import Advanced, Delivered, Report
from lily.batch.storage import download, is_remote, join, sha256, size_of
from lily.certify.paths import metadata_path
from lily.errors import InputError, LilyError
from lily.inference.engine import InferenceEngine
from lily.inference.events import Analyzed, ChunksDone, Event, Failed, UpsampleResult
from lily.inference.recording import RecordingRun
from lily.inference.sample import ChunkItem

log = logging.getLogger(__name__)

# No space, over quota, read-only: the other recordings would fail too.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class ThisProcess:
    """One engine, in the process that drives the batch."""

    largest_first = False  # in the order of their names, as a person looks for them

    def __init__(self, engine: InferenceEngine) -> None:
        self.engine = engine

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Restore every job's recording; reports each once."""
        return work(self.engine, jobs, request)


def work(engine: InferenceEngine, jobs: Iterable[Job], request: Request) -> Iterator[Report]:
    """Restore every recording; each ends in one ``Delivered``."""
    lengths: dict[_Recording, float] = {}  # seconds
    recordings = (_Recording(engine, job, request) for job in jobs)
    for recording, event in engine.run(recordings):
        if isinstance(event, Analyzed):
            lengths[recording] = event.seconds
        elif isinstance(event, ChunksDone):
            done = event.done / event.total
            yield Advanced(recording.job.input, lengths[recording] * done)
        elif isinstance(event, Failed):
            lengths.pop(recording, None)
            yield failed(recording.job, event.error)
        elif isinstance(event, Delivered):
            lengths.pop(recording, None)
            yield event


def failed(job: Job, error: BaseException) -> Delivered:
    """The report of a recording that could not be restored."""
    row = {
        "input": job.input,
        "output": job.output,
        "status": SKIPPED if isinstance(error, FileExistsError) else FAILED,
        "error": _sentence(error),
    }
    return Delivered(row, disk_full=isinstance(error, OSError) and error.errno in DISK_FULL)


class _Recording:
    """A job as the engine runs it: downloaded before it is read, committed when it is complete.

    If it fails, it leaves nothing.
    """

    def __init__(self, engine: InferenceEngine, job: Job, request: Request) -> None:
        self.job = job
        self._engine, self._request = engine, request
        self._staging = Staging(request.folder)
        self._staged: Path | None = None
        self._run: RecordingRun | None = None  # none if an earlier worker has committed it
        self._began = time.perf_counter()

    @property
    def complete(self) -> bool:
        return self._run is None or self._run.complete

    def read(self) -> Iterator[Event | ChunkItem | Delivered]:
        return self._sentences(self._read())

    def add(self, variant: int, sampled: Sequence[tuple[ChunkItem, Tensor]]) -> Iterator[Event]:
        return self._sentences(self._run.add(variant, sampled))

    def finish(self) -> Iterator[Delivered]:
        return self._sentences(self._commit())

    def close(self) -> None:
        if self._run:
            self._run.close()
        if self._staged:
            shutil.rmtree(self._staged, ignore_errors=True)

    def _read(self) -> Iterator[Event | ChunkItem | Delivered]:
        job, request = self.job, self._request
        self._began = time.perf_counter()
        for row, row_file in self._staging.recover(job.input):  # of a lost worker's commit
            yield Delivered(row, row_file)
            return
        _check_free(job, request)
        self._staged = self._staging.begin(job.input)
        self._source = _source(job, self._staged)
        self._status = os.stat(self._source)
        self._digest = sha256(self._source)
        options = request.options
        if not is_remote(request.folder):  # where a later run with --resume finds them
            chunks = Path(request.folder, STATE, "chunks", digest_of(job.input))
            options = replace(options, chunk_folder=chunks)
        self._run = self._engine.recording(self._source, self._staged / "out", options)
        yield from self._run.read()

    def _commit(self) -> Iterator[Delivered]:
        if self._run is None:
            return
        job = self.job
        (finished,) = self._run.finish()
        result = finished.result
        if _identity(os.stat(self._source)) != _identity(self._status):
            raise InputError(f"{job.input} changed while it was read; run the command again.")
        row = _row(job, result, time.perf_counter() - self._began)
        row |= {"sha256": self._digest, "bytes": self._status.st_size}
        files = _files(job, result)
        row |= {"files": list(files), "output_bytes": result.output.stat().st_size}
        own = _own(job, self._request)
        yield Delivered(row, self._staging.commit(row, files, self._staged, replaced=own))

    def _sentences(self, events: Iterator[Any]) -> Iterator[Any]:
        """Yield events; an unexpected error is logged and becomes one that ends this job alone."""
        try:
            yield from events
        except (LilyError, OSError):
            raise
        except Exception as error:
            log.exception("%s", self.job.input)
            raise LilyError(f"{type(error).__name__}: {error}") from error


def _names(job: Job) -> tuple[str, str]:
    """The files of a result, below the output folder; the audio file last."""
    return metadata_path(Path(job.output)).as_posix(), job.output


def _own(job: Job, request: Request) -> tuple[str, ...]:
    """Those of them that may be replaced."""
    # By the manifest, metadata without its result is Lily's own.
    return _names(job) if request.overwrite else _names(job)[:-1] if job.done_before else ()


def _check_free(job: Job, request: Request) -> None:
    """Raise FileExistsError if a file is in a result's place, InputError if none can be there."""
    for name in _names(job):
        try:
            taken = size_of(join(request.folder, name)) is not None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise InputError(f"The result's name {name} is too long; rename the input.") from error
        if taken and name not in _own(job, request):
            place = join(request.folder, name)
            raise FileExistsError(f"{place} exists already and is not overwritten.")


def _source(job: Job, staged: Path) -> Path:
    """A local file to decode."""
    folder = staged / "in"
    folder.mkdir()
    path = download(job.input, folder)
    try:
        str(path).encode()
    except UnicodeEncodeError:  # libsndfile opens no name that is not UTF-8
        link = folder / f"recording{path.suffix}"
        link.symlink_to(path.resolve())
        return link
    return path


def _files(job: Job, result: UpsampleResult) -> dict[str, Path]:
    metadata, output = _names(job)
    files = {metadata: result.metadata} if result.metadata else {}
    return {**files, output: result.output}


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}."
    return str(error) or type(error).__name__


def _row(job: Job, result: UpsampleResult, elapsed: float) -> Row:
    return {
        **result.to_dict(),
        "input": job.input,
        "output": job.output,
        "status": DONE,
        "elapsed_seconds": round(elapsed, 3),
        "metadata": result.metadata and metadata_path(Path(job.output)).as_posix(),
        "message": " ".join(filter(None, [result.message, job.note])),
        "error": "",
    }
