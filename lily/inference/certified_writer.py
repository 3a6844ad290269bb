"""Watch a take being written and put its certificate beside it: both get their names, or neither.

Figures are taken from the very samples that the file holds, block by block, while they pass: there
is no second pass, and memory does not grow with duration.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lily.audio.read import AudioWriter
from lily.certify.certificate import Certificate, Output, Recording, Run, certificate_path
from lily.certify.witness import Witness
from lily.inference.events import UpsampleOptions
from lily.inference.options import Measurement
from lily.version import VERSION

if TYPE_CHECKING:
    from lily.inference.engine import InferenceEngine


@dataclass(frozen=True)
class Statement:
    """What is known of a run before it writes."""

    run: Run
    input_sha256: str
    input_rate: int
    input_samples: int  # at the output's rate


def state(
    engine: InferenceEngine, measured: Measurement, chosen: UpsampleOptions, filled: bool
) -> Statement:
    """How a take is made; ``filled`` False: the recording is written as it is."""
    run = Run(
        model=engine.name,
        weights_sha256=engine.weights_sha256,
        encoder=chosen.encoder,
        steps=chosen.steps or 0,
        sampler=chosen.sampler or "",
        guidance=chosen.guidance or 1.0,
        seed=chosen.seed or 0,
        profile=chosen.profile,
        filled=filled,
        cutoffs=tuple(zip(measured.cutoffs.starts, measured.cutoffs.hz, strict=True)),
        device=str(engine.device),
        precision=str(engine.precision).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )
    return Statement(run, measured.sha256, measured.info.sample_rate, measured.samples)


class CertifiedWriter(AudioWriter):
    """An AudioWriter that certifies what it writes; ``certificate`` is there once it is closed."""

    def __init__(self, path: Path, sample_rate: int, channels: int, statement: Statement) -> None:
        super().__init__(path, sample_rate, channels)
        self._statement = statement
        self._witness: Witness | None = None
        self.certificate: Certificate | None = None

    def plan(self, joins: Sequence[float], fade: float) -> None:
        """Say where chunks will be joined, in seconds, and over how long; before the first block.

        Without it there are no joins.
        """
        run = replace(self._statement.run, joins=tuple(joins), fade=fade)
        self._statement = replace(self._statement, run=run)

    def hear(self, recording: Tensor) -> None:
        """Take a block (C, n) of the recording; it may be ahead of what is written."""
        self._present().heard(recording)

    def write(self, block: Tensor) -> Tensor:
        """Append a block (C, n), as AudioWriter does."""
        stored = super().write(block)
        self._present().written(stored)
        return stored

    def close(self) -> None:
        """Certify, complete the file, and give both their names."""
        if self._raw.closed:
            return
        try:
            self.certificate = self._certified()
            self.comment = self.certificate.short()
            with _beside(self.path, self.certificate.to_json()) as name_it:
                super().close()
                name_it()
        except BaseException:
            self.discard()
            raise

    def _present(self) -> Witness:
        if self._witness is None:
            self._witness = Witness(self._statement.run, self.sample_rate)
        return self._witness

    def _certified(self) -> Certificate:
        said, witness = self._statement, self._present()
        kept, added, seams = witness.finish()
        pair = witness.pair
        recording = Recording(
            said.input_sha256,
            said.input_rate,
            self.channels,
            said.input_samples,
            pair.recording.result(),
        )
        output = Output(
            self.sha256,
            self.sample_rate,
            self.channels,
            self.frames,
            self.subtype,
            pair.output.result(),
        )
        versions = {"lily": VERSION, "torch": torch.__version__}
        return Certificate(said.run, recording, output, kept, added, seams, versions)


@contextlib.contextmanager
def _beside(audio: Path, told: dict[str, Any]) -> Iterable[Any]:
    """Write a certificate under a temporary name; what is yielded gives it its own."""
    path = certificate_path(audio)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
            file.write("\n")
        yield lambda: os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
