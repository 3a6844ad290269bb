"""Give every input its output.

``a/b.mp3`` becomes ``a/b.wav``. Where two inputs would share that name (a.mp3 and a.wav), each
keeps its whole name (a.mp3.wav, a.wav.wav), except for one that an earlier run has finished. An
input whose name is still taken is an error of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from lily.batch.listing import Found
from lily.batch.manifest import DONE
from lily.inference.options import UpsampleOptions


@dataclass(frozen=True)
class Job:
    """One recording to restore."""

    input: str  # a path or a URL
    output: str  # below the output folder, with slashes
    size: int  # bytes
    note: str = ""  # why its name is not the usual one
    done_before: bool = False  # the manifest has a row of its result, and so of its metadata


@dataclass(frozen=True)
class Request:
    """What to restore, where the results go, and how they are made."""

    source: str  # a folder, a pattern, a list, a file or a URL
    folder: str  # of the results: a path or a URL
    options: UpsampleOptions
    model: str  # results in one folder must share it, besides the options
    overwrite: bool = False


@dataclass(frozen=True)
class Known:
    """What the manifest says of an input."""

    status: str
    output: str | None
    broken: bool = False  # a check of its result failed


@dataclass
class Plan:
    """The jobs of a run, and by input why others cannot be read or are no recordings."""

    jobs: list[Job] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def make_plan(found: Iterable[Found], known: Mapping[str, Known]) -> Plan:
    """Name the output of every input; ``known`` is the manifest of earlier runs, by input."""
    inputs = _without_duplicates(found, known)
    plan = Plan(
        problems={one.address: one.problem for one in inputs if one.problem},
        left_out={one.address: one.left_out for one in inputs if one.left_out},
    )
    inputs = [one for one in inputs if not one.problem and not one.left_out]
    wanted = Counter(_name(one) for one in inputs)
    taken = {row.output for row in known.values() if row.output}
    clashing = []
    for one in inputs:
        before = known.get(one.address)
        if before and before.output:
            done = before.status == DONE
            plan.jobs.append(Job(one.address, before.output, one.size, done_before=done))
        elif wanted[_name(one)] == 1 and _name(one) not in taken:
            plan.jobs.append(Job(one.address, _name(one), one.size))
            taken.add(_name(one))
        else:
            clashing.append(one)
    for one in clashing:
        name = f"{one.relative}.wav"
        if name in taken:
            plan.problems[one.address] = (
                f"The output name {name} is used by another input already; rename this input."
            )
            continue
        note = "Another input differs only in its ending, so the ending is kept."
        plan.jobs.append(Job(one.address, name, one.size, note))
        taken.add(name)
    return plan


def _name(one: Found) -> str:
    return str(PurePosixPath(one.relative).with_suffix(".wav"))


def _without_duplicates(found: Iterable[Found], known: Mapping[str, Known]) -> list[Found]:
    """One entry per file, also if a list names it several times or in different spellings.

    The spelling that the manifest knows is kept, or else the first in order.
    """
    chosen: dict[str, Found] = {}
    for one in found:
        other = chosen.setdefault(one.relative, one)
        if (one.address not in known, one.address) < (other.address not in known, other.address):
            chosen[one.relative] = one
    return sorted(chosen.values(), key=lambda one: one.address)
