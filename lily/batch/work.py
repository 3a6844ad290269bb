"""Restore a worker's share of the recordings: download, hash, upsample in shared batches, commit.

Every recording ends in a row for the manifest, whatever happens to it.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from lily.batch.commit import Staging
from lily.batch.manifest import DONE, FAILED, SKIPPED, Row
from lily.batch.plan import Job, Request
from lily.batch.progress import Advanced, Delivered, Report
from lily.batch.storage import download, join, sha256, size_of
from lily.certify.metadata import metadata_path
from lily.errors import InputError, LilyError
from lily.inference.engine import InferenceEngine
from lily.inference.events import ChunksDone, Event, Finished, Measured, UpsampleResult
from lily.inference.interleave import Failed, Recording, together

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
    lengths: dict[Job, float] = {}

    def told(job: Job, event: Event | Failed | Delivered) -> Report | None:
        if isinstance(event, Measured):
            lengths[job] = event.seconds
        elif isinstance(event, ChunksDone):
            return Advanced(job.input, lengths[job] * event.done / event.total)
        elif isinstance(event, Failed):
            lengths.pop(job, None)
            return failed(job, event.error)
        elif isinstance(event, Delivered):
            lengths.pop(job, None)
            return event
        return None

    recordings = ((job, _recording(engine, job, request)) for job in jobs)
    for report in together(recordings, engine.sampler, told):
        if report is not None:
            yield report


def failed(job: Job, error: BaseException) -> Delivered:
    """The report of a recording that could not be restored."""
    row = {
        "input": job.input,
        "output": job.output,
        "status": SKIPPED if isinstance(error, FileExistsError) else FAILED,
        "error": _sentence(error),
    }
    return Delivered(row, disk_full=isinstance(error, OSError) and error.errno in DISK_FULL)


def _recording(engine: InferenceEngine, job: Job, request: Request) -> Recording:
    """One recording as the engine's events, then ``Delivered``; leaves nothing if it fails."""
    began = time.perf_counter()
    staging = Staging(request.folder)
    for row, row_file in staging.recover(job.input):  # of a worker that was lost after its commit
        yield Delivered(row, row_file)  # type: ignore[misc]
        return
    _check_free(job, request)
    staged = staging.begin(job.input)
    try:
        source = _source(job, staged)
        before = os.stat(source)
        digest = sha256(source)
        result: UpsampleResult | None = None
        for event in engine.begin(source, staged / "out", request.options):
            if isinstance(event, Finished):
                result = event.result
            else:
                yield event
        assert result is not None
        if _identity(os.stat(source)) != _identity(before):
            raise InputError(f"{job.input} changed while it was read; run the command again.")
        row = _row(job, result, time.perf_counter() - began)
        row |= {"sha256": digest, "bytes": before.st_size}
        files = _files(job, result)
        row |= {"files": list(files), "output_bytes": result.output.stat().st_size}
        row_file = staging.commit(row, files, staged, replaced=_own(job, request))
    except Exception as error:
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, LilyError | OSError):
            raise
        logging.getLogger(__name__).exception("%s", job.input)
        raise LilyError(f"{type(error).__name__}: {error}") from error
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    yield Delivered(row, row_file)  # type: ignore[misc]


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
        "input": job.input,
        "output": job.output,
        "status": DONE,
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
