"""Decide whether a file is what its certificate says: measure it again and compare.

From the file alone: the samples' hash, the seal, and every figure of the output by itself. Against
the input: everything, so that a forged certificate that agrees with a changed file is found too.
Figures agree within what another machine's rounding may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lily.audio.read import AudioInfo, probe, read_blocks
from lily.audio.resample import Resampler
from lily.audio.sample_hash import AudioHash, SampleHash
from lily.audio.tags import read_comment
from lily.certify.certificate import (
    Certificate,
    Recording,
    certificate_path,
    read_certificate,
    read_short,
)
from lily.certify.check import Law
from lily.certify.witness import Witness
from lily.errors import InputError

NULL_TOLERANCE_DB = 1.0  # a null of 110 dB is a sum of rounding, which machines differ in
LEVEL_TOLERANCE_DB = 0.02
QUIET_DB = -120.0  # levels below are rounding too
RATIO_TOLERANCE = 0.002
FREQUENCY_TOLERANCE_HZ = 0.1
TOLERANCE = 1e-5  # of everything else: DC and correlations
OF_THE_OUTPUT = ("True peak of the output", "Seam score")  # what needs no input
NOT_FIGURES = {"sha256", "run", "versions", "schema"}  # compared by hash or by the seal


@dataclass(frozen=True)
class Verdict:
    """What was found of one file."""

    file: Path
    certificate: Path
    against: Path | None
    laws: tuple[Law, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is as it must not be."""
        return all(law.holds is not False for law in self.laws)


def verify(file: Path, against: Path | None = None) -> Verdict:
    """Check a file, and with ``against`` also that it was made of that recording.

    Raises InputError if the file is no audio, has no certificate, or the input cannot be read.
    """
    info = probe(file)
    origin = probe(against) if against else None
    short, path = read_short(read_comment(file)), certificate_path(file)
    if not path.exists():
        if not short:
            raise InputError(
                f"{file} has no certificate, neither {path.name} beside it nor one inside it; "
                "give a file that Lily wrote, together with its certificate."
            )
        return Verdict(file, path, against, _without_certificate(file, short, path))
    stated = read_certificate(path)
    seal = short.get("seal") == stated.seal
    laws = [_law("Certificate is the one sealed in the file", seal)]
    shape = stated.output.sample_rate, stated.output.channels
    fits = (info.sample_rate, info.channels) == shape
    fits &= origin is None or origin.channels == shape[1]
    laws.append(_law("Rate and channels are those certified", fits))
    if not fits:
        return Verdict(file, path, against, tuple(laws))
    measured = _measured(file, info, stated, against)
    laws.append(_law("Samples are those certified", _same(measured.output, stated.output)))
    if against is not None:
        laws.append(_law("Input is the recording certified", _same(measured.input, stated.input)))
    wrong = list(differences(stated, measured))
    told = f"{len(wrong)} differ: {', '.join(wrong[:3])}" if wrong else "yes"
    laws.append(Law("Figures measured again agree", told, "", not wrong))
    figures = measured.laws() if against else map(_as_certified, measured.laws())
    return Verdict(file, path, against, (*laws, *figures))


def differences(stated: Any, measured: Any, name: str = "") -> Iterator[str]:
    """Names of the figures in which two certificates, or parts of them, do not agree."""
    if is_dataclass(stated) and type(stated) is type(measured):
        for part in fields(stated):
            if part.name not in NOT_FIGURES:
                dotted = f"{name}.{part.name}".strip(".")
                pair = getattr(stated, part.name), getattr(measured, part.name)
                yield from differences(*pair, dotted)
    elif isinstance(stated, tuple) and isinstance(measured, tuple):
        if len(stated) != len(measured):
            yield name
        for place, pair in enumerate(zip(stated, measured, strict=False)):
            yield from differences(*pair, f"{name}[{place}]")
    elif not _agree(stated, measured, name):
        yield name


def _agree(a: Any, b: Any, name: str) -> bool:
    if not isinstance(a, float) or not isinstance(b, float):
        return a == b
    tolerance = TOLERANCE
    if name.endswith(("null_db", "residual_db")):
        tolerance = NULL_TOLERANCE_DB
    elif name.endswith("_db"):
        tolerance = LEVEL_TOLERANCE_DB
        a, b = max(a, QUIET_DB), max(b, QUIET_DB)
    elif name.endswith(("_ratio", "_error")):
        tolerance = RATIO_TOLERANCE
    elif name.endswith("_hz"):
        tolerance = FREQUENCY_TOLERANCE_HZ
    return abs(a - b) <= tolerance


def _as_certified(law: Law) -> Law:
    """A law whose figure needs the input, which is not at hand, says so."""
    if law.label.startswith(OF_THE_OUTPUT):
        return law
    return replace(law, unit=f"{law.unit} (as certified)".strip())


def _law(label: str, holds: bool) -> Law:
    return Law(label, "yes" if holds else "no", "", holds)


def _same(a: Any, b: Any) -> bool:
    return a.sha256 == b.sha256


def _without_certificate(file: Path, short: dict[str, Any], path: Path) -> tuple[Law, ...]:
    """What the short form inside a file can tell when its certificate is missing."""
    digest = SampleHash()
    for block in read_blocks(file):
        digest.update(block)
    return (
        Law("Certificate lies beside the file", f"{path.name} is missing", "", False),
        _law("Samples are those certified", digest.hexdigest() == short.get("samples")),
    )


def _measured(
    file: Path, info: AudioInfo, stated: Certificate, against: Path | None
) -> Certificate:
    """The certificate with every figure measured anew that the files at hand can give."""
    digest, count = SampleHash(), 0
    witness = Witness(stated.run, info.sample_rate)
    origin = None if against is None else _Origin(against, info.sample_rate)
    for block in read_blocks(file):
        digest.update(block)
        count += block.shape[-1]
        if origin is None:
            witness.alone(block)
        else:
            part = origin.take(block.shape[-1])
            witness.heard(part)
            witness.written(block[:, : part.shape[-1]])
    kept, added, seams = witness.finish()
    measured = replace(
        stated,
        output=replace(
            stated.output,
            sha256=digest.hexdigest(),
            subtype=info.subtype,
            samples=count,
            signal=witness.pair.output.result(),
        ),
        seams=seams,
    )
    if origin is None:
        return measured
    told = Recording(*origin.rest(), signal=witness.pair.recording.result())
    return replace(measured, input=told, kept=kept, added=added)


class _Origin:
    """The input at the output's rate, as many samples at a time as are asked for."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self._info = probe(path)
        self._digest = AudioHash(self._info.sample_rate, self._info.channels)
        self._blocks = self._resampled(path, sample_rate)
        self._held = torch.zeros(self._info.channels, 0)
        self._samples = 0

    def take(self, count: int) -> Tensor:
        """The next ``count`` samples (C, n); fewer where it ends."""
        while self._held.shape[-1] < count:
            block = next(self._blocks, None)
            if block is None:
                break
            self._held = torch.cat([self._held, block], dim=-1)
        taken, self._held = self._held[:, :count], self._held[:, count:]
        return taken

    def rest(self) -> tuple[str, int, int, int]:
        """Read to the end: hash, rate, channels and samples at the output's rate."""
        for _ in self._blocks:
            pass
        return (
            self._digest.hexdigest(),
            self._info.sample_rate,
            self._info.channels,
            self._samples,
        )

    def _resampled(self, path: Path, sample_rate: int) -> Iterator[Tensor]:
        resampler = Resampler(self._info.sample_rate, sample_rate)
        for block in read_blocks(path):
            self._digest.update(block)
            yield self._counted(resampler.push(block))
        yield self._counted(resampler.flush())

    def _counted(self, block: Tensor) -> Tensor:
        self._samples += block.shape[-1]
        return block
