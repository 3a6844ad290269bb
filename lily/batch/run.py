"""Drive a batch from its inputs to its manifest; goes on where an earlier run has ended.

What an interrupted run leaves is told apart by ``.lily/`` of the output folder: results on their
way, and ``run.json`` with the settings that all results share. A result that is in place with its
row is finished and is not looked at again; one without a row is someone else's and is not touched.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from lily.batch.crossings import Crossings
from lily.batch.listing import listed
from lily.batch.manifest import DONE, FAILED, SKIPPED, Manifest, Row, opened
from lily.batch.places import (
    STATE,
    exists,
    is_remote,
    joined,
    names_below,
    read_bytes,
    remove,
    write_bytes,
)
from lily.batch.plan import Job, Plan, Request
from lily.batch.work import Advanced, Report
from lily.errors import InputError, LilyError


class Workers(Protocol):
    """Whoever fills in recordings: this process, or a cluster's."""

    largest_first: bool  # so that no long recording is begun last

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Fill in every job's recording; reports each once, in any order. ``size`` is theirs."""
        ...


@dataclass
class Progress:
    """How far a run is; sizes are in bytes, times in seconds."""

    files: int
    size: int
    finished_before: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    repeated: bool = False  # an input has been tried that the manifest knew
    finished_seconds: float = 0.0  # of audio, by this run
    under_way: dict[str, float] = field(default_factory=dict)  # the same of open recordings
    settled_size: int = 0  # of the files that need no more work
    work_size: int = 0  # of those that this run has dealt with
    began: float = field(default_factory=time.monotonic)

    @property
    def settled(self) -> int:
        """Files that need no more work."""
        return self.finished_before + self.done + self.failed + self.skipped

    @property
    def seconds(self) -> float:
        """Since the first recording was begun."""
        return time.monotonic() - self.began

    @property
    def audio_seconds(self) -> float:
        """Audio that this run has filled in."""
        return self.finished_seconds + sum(self.under_way.values())

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work a second of audio, of all workers together."""
        return self.seconds / self.audio_seconds if self.audio_seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far, by bytes."""
        if not self.work_size:
            return None
        return self.seconds * max(0, self.size - self.settled_size) / self.work_size


class DiskFull(LilyError):
    """No result can be written any more."""


def run(
    request: Request, workers: Workers, tell: Callable[[Progress, Row | None], None]
) -> Progress:
    """Fill in what is still to be done; ``tell`` hears of every row and of progress between them.

    Raises InputError for inputs that are not there or settings that differ from the results', and
    DiskFull.
    """
    with opened(request.folder) as manifest, Plan() as plan:
        request = _settled(request, manifest)
        crossings = Crossings(request.folder)
        _recover(manifest, crossings)
        for row in manifest.rows():
            plan.remember(row["input"], row["status"], row["output"])
        plan.list(listed(request.source, request.folder))
        if is_remote(request.folder):
            plan.present(names_below(request.folder))
        progress = Progress(*plan.totals())
        if not progress.files:
            raise InputError(f"No recording was found in {request.source}.")
        for source, problem, known in plan.problems():
            row = {"input": source, "output": None, "status": FAILED, "error": problem}
            _count(progress, row, 0)
            progress.repeated |= known
            manifest.append(row)
            tell(progress, row)
        try:
            _drive(request, workers, manifest, plan, progress, tell)
        finally:
            manifest.settle()
        if progress.repeated:
            manifest.compact()
        _remember(request, overwriting=False)
        return progress


def _drive(
    request: Request,
    workers: Workers,
    manifest: Manifest,
    plan: Plan,
    progress: Progress,
    tell: Callable[[Progress, Row | None], None],
) -> None:
    sizes: dict[str, int] = {}  # of the recordings that are being worked on
    landed: list[str] = []  # crossings whose rows the manifest may lose yet

    def due() -> Iterator[Job]:
        for job, status in plan.jobs(workers.largest_first):
            there = _is_there(request, plan, job)
            if status == DONE and there:
                progress.finished_before += 1
                progress.settled_size += job.size
                tell(progress, None)
            elif status != SKIPPED or not there:  # else it is skipped again, which is known
                sizes[job.input] = job.size
                progress.repeated |= status is not None
                yield job
            else:
                progress.skipped += 1
                progress.settled_size += job.size

    progress.began = time.monotonic()
    with closing(workers.work(due(), request, progress.size)) as reports:
        for report in reports:
            if isinstance(report, Advanced):
                progress.under_way[report.input] = report.seconds
                tell(progress, None)
                continue
            row = dict(report.row)
            full_disk = row.pop("full_disk", False)
            progress.under_way.pop(row["input"], None)
            _count(progress, row, sizes.pop(row["input"], 0))
            landed.append(report.crossing)
            if manifest.append(row):
                _clear(landed)
            tell(progress, row)
            if full_disk:
                raise DiskFull(
                    f"{row['error']} {progress.files - progress.settled} files are left: make room "
                    "and run the same command again, it goes on here."
                )
    manifest.settle()
    _clear(landed)


def _is_there(request: Request, plan: Plan, job: Job) -> bool:
    if is_remote(request.folder):
        return plan.is_present(job.output)
    return exists(joined(request.folder, job.output))


def _count(progress: Progress, row: Row, size: int) -> None:
    progress.settled_size += size
    progress.work_size += size
    if row["status"] == DONE:
        progress.done += 1
        progress.finished_seconds += row["seconds"]
    elif row["status"] == SKIPPED:
        progress.skipped += 1
    else:
        progress.failed += 1


def _clear(landed: list[str]) -> None:
    for crossing in filter(None, landed):
        remove(crossing)
    landed.clear()


def _recover(manifest: Manifest, crossings: Crossings) -> None:
    """Bring the rows of results that have arrived into the manifest; drop what is half-written."""
    found = list(crossings.all())
    on_their_way = {row["input"]: row for _, row in found if row is not None}
    if on_their_way:
        for row in manifest.rows():  # a worker's death may have left a row that is kept already
            if row["status"] == DONE:
                on_their_way.pop(row["input"], None)
    for row in on_their_way.values():
        manifest.append(row)
    manifest.settle()
    for address, row in found:
        if row is None:
            crossings.withdraw(address)
    _clear([address for address, _ in found])


def _settled(request: Request, manifest: Manifest) -> Request:
    """The request with its seed; raises InputError if the folder's results were made otherwise."""
    stored = read_bytes(_state(request))
    before: dict[str, Any] = json.loads(stored) if stored else {}
    if request.overwrite and before and (not before["overwriting"] or _differing(request, before)):
        before = {}  # the earlier results have had their day
    if not before and request.overwrite:
        manifest.clear()
        Crossings(request.folder).clear()
    elif before.get("overwriting"):  # what was interrupted goes on
        request = dataclasses.replace(request, overwrite=True)
    differing = _differing(request, before)
    request = _seeded(request, before)
    if differing:
        key, now = differing[0], _settings(request)
        raise InputError(
            f"{request.folder} holds results with {key} {_said(before['settings'][key])}, now it "
            f"is {_said(now[key])}; give what was given before, another output folder, or "
            "--overwrite."
        )
    _remember(request, overwriting=request.overwrite)
    return request


def _seeded(request: Request, before: dict[str, Any]) -> Request:
    """The request with a seed: its own, that of the results before, or a new one."""
    seed = request.options.seed
    if seed is None:
        seed = before.get("settings", {}).get("seed")
    seed = secrets.randbelow(2**31) if seed is None else seed
    return dataclasses.replace(request, options=dataclasses.replace(request.options, seed=seed))


def _differing(request: Request, before: dict[str, Any]) -> list[str]:
    """The settings in which the results before differ from what is asked for now."""
    if not before:
        return []
    now = _settings(_seeded(request, before))
    return [key for key, value in before["settings"].items() if value != now.get(key)]


def _settings(request: Request) -> dict[str, Any]:
    options = dataclasses.asdict(request.options)
    del options["resume"]  # it changes no sample
    settings = {"model": request.model, **options}
    return json.loads(json.dumps(settings))  # as it is read back: tuples are lists


def _said(value: Any) -> str:
    return "by default" if value is None else str(value)


def _state(request: Request) -> str:
    return joined(request.folder, f"{STATE}/run.json")


def _remember(request: Request, overwriting: bool) -> None:
    content = {"settings": _settings(request), "overwriting": overwriting}
    write_bytes(_state(request), json.dumps(content).encode())
