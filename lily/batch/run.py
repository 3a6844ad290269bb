"""Run a batch from its inputs to its manifest; an interrupted one continues where it ended.

For that, ``.lily/`` in the output folder holds ``run.json``, the settings that all results in the
folder share, and ``work/`` (see ``lily/batch/commit.py``). Inputs whose result is in place and in
the manifest are not processed again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, Protocol

from lily.batch.commit import Staging
from lily.batch.listing import Found, find_inputs
from lily.batch.manifest import DONE, FAILED, SKIPPED, STATE, Manifest, Row, row_checks
from lily.batch.plan import Job, Known, Request, make_plan
from lily.batch.progress import Advanced, Progress, Report
from lily.batch.storage import files_below, is_remote, join, read_bytes, remove, write_bytes
from lily.certify.check import failed
from lily.errors import InputError, LilyError

Tell = Callable[[Progress, Row | None], None]


class Workers(Protocol):
    """What restores recordings: this process, or Ray."""

    largest_first: bool  # so that no long recording is left for the end

    def work(self, jobs: Iterable[Job], request: Request, size: int) -> Iterator[Report]:
        """Restore every job's recording; reports each once, in any order. ``size`` is in bytes."""
        ...


class DiskFull(LilyError):
    """No more results can be written."""


def run(
    request: Request, start: Callable[[], AbstractContextManager[Workers]], tell: Tell
) -> Progress:
    """Restore what has no result yet; ``tell`` receives every row, and progress between them.

    Workers are started only if there is work for them. Raises InputError for inputs that do not
    exist or settings that differ from those of earlier results, and DiskFull.
    """
    found = list(find_inputs(request.source, request.folder))
    if all(one.left_out for one in found):
        reasons = "".join(f" {one.address}: {one.left_out}" for one in found[:1])
        raise InputError(f"No recording was found in {request.source}.{reasons}")
    with Manifest(request.folder) as manifest:
        batch = _Batch(request, manifest, found, tell)
        with start() if batch.due else nullcontext() as workers:
            batch.begin()
            if workers is not None:
                batch.drive(workers)
        batch.finish()
    return batch.progress


class _Batch:
    """One run. Nothing of an earlier run is dropped before ``begin``."""

    def __init__(
        self, request: Request, manifest: Manifest, found: Iterable[Found], tell: Tell
    ) -> None:
        self.request, self.anew = _reconciled(request)
        self.manifest, self.tell = manifest, tell
        self.staging = Staging(request.folder)
        self.known: dict[str, Known] = {}
        self._row_files: list[str] = []  # of rows that the manifest could still lose
        self._repeated = False  # an input has more than one row
        if not self.anew:
            self.known = {row["input"]: _known(row) for row in manifest.rows()}
            self._recover()
        self.plan = make_plan(found, self.known)
        files = len(self.plan.jobs) + len(self.plan.problems) + len(self.plan.left_out)
        self.progress = Progress(files, sum(job.size for job in self.plan.jobs))
        self.due = list(self._due())
        tell(self.progress, None)

    def begin(self) -> None:
        """Write the settings, and the rows of the inputs that cannot be tried."""
        if self.anew:
            self.manifest.clear()
            self.staging.clear()
        _write_settings(self.request, overwriting=self.request.overwrite)
        for status, inputs in ((SKIPPED, self.plan.left_out), (FAILED, self.plan.problems)):
            for source, reason in inputs.items():
                if status == SKIPPED and self.known.get(source) == Known(SKIPPED, None):
                    self.progress.skipped += 1  # as the manifest says already
                    continue
                self._record({"input": source, "output": None, "status": status, "error": reason})

    def drive(self, workers: Workers) -> None:
        """Have every recording that is due restored, and record its row."""
        self.progress.began = time.monotonic()
        sizes = {job.input: job.size for job in self.due}
        if workers.largest_first:
            self.due.sort(key=lambda job: -job.size)
        with closing(workers.work(self.due, self.request, sum(sizes.values()))) as reports:
            for report in reports:
                if isinstance(report, Advanced):
                    self.progress.under_way[report.input] = report.seconds
                    self.tell(self.progress, None)
                    continue
                self._record(report.row, sizes[report.row["input"]], report.row_file)
                if report.disk_full:
                    left = self.progress.files - self.progress.settled
                    raise DiskFull(
                        f"{report.row['error']} {left} files are left: make room and run the same "
                        "command again to continue."
                    )

    def finish(self) -> None:
        """Leave one row for each input, and nothing unfinished."""
        self.manifest.upload()
        if self._repeated:
            self.manifest.compact()
            self.manifest.upload()
        self.staging.clear()
        _write_settings(self.request, overwriting=False)

    def _recover(self) -> None:
        """Add the rows of results that an interrupted run has put in place."""
        row_files = []
        for row, row_file in self.staging.recover():
            before = self.known.get(row["input"])
            if before is None or before.status != DONE:
                self.manifest.append(row)
                self.known[row["input"]] = _known(row)
                self._repeated |= before is not None
            row_files.append(row_file)
        if row_files:
            self.manifest.upload()
        for row_file in row_files:
            remove(row_file)

    def _due(self) -> Iterator[Job]:
        """The jobs without a result; those with one are counted."""
        folder, progress = self.request.folder, self.progress
        names = {name for name, _ in files_below(folder)} if is_remote(folder) else None
        for job in self.plan.jobs:
            if names is None:
                there = os.path.lexists(join(folder, job.output))
            else:  # one listing instead of a request for each
                there = job.output in names
            status = self.known[job.input].status if job.input in self.known else None
            if not there or status not in (DONE, SKIPPED):
                yield job
                continue
            progress.settled_size += job.size
            progress.finished_before += status == DONE
            progress.broken += status == DONE and self.known[job.input].broken
            progress.skipped += status == SKIPPED

    def _record(self, row: Row, size: int = 0, row_file: str = "") -> None:
        self.progress.count(row, size)
        self._repeated |= row["input"] in self.known
        if row_file:
            self._row_files.append(row_file)
        if self.manifest.append(row):
            for address in self._row_files:
                remove(address)
            self._row_files.clear()
        self.tell(self.progress, row)


def _known(row: Row) -> Known:
    return Known(row["status"], row["output"], bool(failed(row_checks(row))))


def _reconciled(request: Request) -> tuple[Request, bool]:
    """The request with the seed of earlier results, and whether it begins anew.

    Raises InputError if earlier results were made with other settings.
    """
    before = _before(request)
    if request.overwrite and before and (not before["overwriting"] or _differing(request, before)):
        before = {}  # all of its results are overwritten
    anew = request.overwrite and not before
    if before.get("overwriting"):  # it was interrupted and continues
        request = dataclasses.replace(request, overwrite=True)
    if differing := _differing(request, before):
        key, now = differing[0], _settings(request)
        raise InputError(
            f"{request.folder} holds results with {key} {_shown(before['settings'][key])}, not "
            f"{_shown(now[key])}; use the earlier settings, another output folder, or --overwrite."
        )
    return _with_seed(request, before), anew


def _before(request: Request) -> dict[str, Any]:
    """What an earlier run has stored; raises InputError where that is something else."""
    stored = read_bytes(_address(request))
    if not stored:
        return {}
    try:
        before = json.loads(stored)
        known = isinstance(before["settings"], dict) and isinstance(before["overwriting"], bool)
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise InputError(
            f"{_address(request)} does not hold the settings of a batch; remove it to begin anew, "
            "or give another output folder."
        )
    return before


def _with_seed(request: Request, before: dict[str, Any]) -> Request:
    """The request with its own seed, or that of the earlier results, or a new one."""
    seed = request.options.seed
    if seed is None:
        seed = before.get("settings", {}).get("seed")
    seed = secrets.randbelow(2**31) if seed is None else seed
    return dataclasses.replace(request, options=dataclasses.replace(request.options, seed=seed))


def _differing(request: Request, before: dict[str, Any]) -> list[str]:
    if not before:
        return []
    now = _settings(_with_seed(request, before))
    return [key for key, value in before["settings"].items() if value != now.get(key)]


def _settings(request: Request) -> dict[str, Any]:
    options = dataclasses.asdict(request.options)
    del options["resume"]  # it changes no sample
    settings = {"model": request.model, **options}
    # As it is read back: tuples become lists, paths become text.
    return json.loads(json.dumps(settings, default=os.path.abspath))


def _shown(value: Any) -> str:
    return "by default" if value is None else str(value)


def _address(request: Request) -> str:
    return join(request.folder, f"{STATE}/run.json")


def _write_settings(request: Request, overwriting: bool) -> None:
    content = {"settings": _settings(request), "overwriting": overwriting}
    write_bytes(_address(request), json.dumps(content).encode())
