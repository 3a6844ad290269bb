"""Measure an output while it is written, and write its metadata beside it.

The meters take the very samples that the file holds, block by block, so there is no second pass and
memory does not grow with duration. They run in a thread of their own, beside the networks. Audio
and metadata get their names together, or neither does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lily.audio.tags import Tags
from lily.audio.temp_files import FileGroup
from lily.audio.write import AudioWriter
from lily.certify.check import Check
from lily.certify.metadata import InputFile, OutputFile, OutputMetadata, Settings
from lily.certify.output_meter import OutputMeter
from lily.certify.paths import metadata_path
from lily.dsp.cutoffs import Cutoffs
from lily.inference.analyze import Analysis
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import PROFILES
from lily.inference.runtime import Runtime
from lily.version import VERSION

WAITING = 4  # blocks that may wait to be measured, so that memory does not grow


@dataclass(frozen=True)
class RunFacts:
    """What the metadata says of a run before anything is written."""

    settings: Settings
    cutoffs: Cutoffs
    cutoff_source: str
    generated: bool
    input: InputFile
    tags: Tags  # of the recording, at its own sample rate

    @property
    def note(self) -> str:
        """What is added to the comment of the audio file."""
        source = f"Lily {VERSION}, model {self.settings.model}, seed {self.settings.seed}"
        if not self.generated:
            return f"Converted by {source}"
        return f"Generated above {self.cutoffs.lowest_hz:.0f} Hz by {source}"


def run_facts(
    runtime: Runtime,
    analysis: Analysis,
    options: UpsampleOptions,
    generated: bool,
    tags: Tags,
    context_sha256: tuple[str, ...] = (),
) -> RunFacts:
    """Collect the facts; ``generated`` False means that the recording is copied.

    ``context_sha256`` are the hashes of borrowed recordings.
    """
    informed = options.encoder and generated
    settings = Settings(
        model=runtime.name,
        weights_sha256=runtime.weights_sha256,
        encoder=options.encoder,
        steps=options.steps or 0,
        sampler=options.sampler or "",
        guidance=float(options.guidance or 1.0),
        seed=options.seed or 0,
        takes=options.takes if generated else (),
        profile=options.profile,
        context_sha256=context_sha256 if informed else (),
        wall_hz=options.wall_hz if generated else None,
        brightness_db=options.brightness_db if generated else None,
        temporal_shape=bool(options.temporal_shape),
        device=str(runtime.device),
        precision=str(runtime.precision).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )
    source = "profile" if PROFILES[options.profile].prepares else "detected"
    recording = InputFile(
        sha256=analysis.sha256,
        sample_rate=analysis.info.sample_rate,
        channels=analysis.info.channels,
        samples=analysis.recorded_samples,
    )
    given = options.cutoff_hz is not None
    source = "given" if given else source
    return RunFacts(settings, analysis.cutoffs, source, generated, recording, tags)


class MeteredWriter(AudioWriter):
    """An AudioWriter that measures what it writes; ``metadata`` is set once it is closed."""

    def __init__(
        self,
        path: Path,
        sample_rate: int,
        channels: int,
        frames: int,
        files: FileGroup,
        facts: RunFacts,
        speakers: int | None = None,
    ) -> None:
        """``frames`` is the most that will be written; ``files`` names audio and metadata."""
        tags = facts.tags.at_rate(facts.input.sample_rate, sample_rate).with_note(facts.note)
        super().__init__(
            path, sample_rate, channels, frames=frames, files=files, speakers=speakers, tags=tags
        )
        self._group = files
        self.metadata: OutputMetadata | None = None
        self._facts = facts
        self._joins: tuple[float, ...] = ()
        self._fade = 0.0
        self._meter = self._new_meter()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="meters")
        self._measuring: deque[Future[None]] = deque()

    def plan(self, joins: Sequence[float], fade: float) -> None:
        """Say where chunks are joined and over how long, in seconds; before the first block."""
        self._joins, self._fade = tuple(round(join, 6) for join in joins), fade
        self._meter = self._new_meter()

    def measure(self, recording: Tensor) -> None:
        """Take a block (C, n) of the recording; it may be ahead of what is written."""
        self._measure(recording=recording)

    def write(self, block: Tensor) -> Tensor:
        """Append a block (C, n), as AudioWriter does."""
        stored = super().write(block)
        self._measure(output=stored)
        return stored

    def checks(self) -> tuple[Check, ...]:
        """What was measured, held to its limits; nothing before the file is closed."""
        return self.metadata.checks() if self.metadata else ()

    def close(self) -> None:
        """Complete the file and write its metadata into the same group."""
        if self.metadata:
            return
        super().close()
        self._wait(most=0)
        self._worker.shutdown()
        self.metadata = self._finished()
        text = self.metadata.model_dump_json(indent=1) + "\n"
        self._group.write_text(metadata_path(self.path), text)

    def discard(self) -> None:
        """Delete what was written."""
        self._worker.shutdown(cancel_futures=True)
        super().discard()

    def _measure(self, **blocks: Tensor) -> None:
        """Give blocks to the meter, in order; waits if it falls behind."""
        self._measuring.append(self._worker.submit(self._meter.push, **blocks))
        self._wait(most=WAITING)

    def _wait(self, most: int) -> None:
        """Wait until at most so many blocks wait to be measured; raises what measuring raised."""
        while len(self._measuring) > most:
            self._measuring.popleft().result()

    def _new_meter(self) -> OutputMeter:
        cutoffs = self._facts.cutoffs if self._facts.generated else None
        return OutputMeter(cutoffs, self.sample_rate, self._joins, self._fade)

    def _finished(self) -> OutputMetadata:
        facts = self._facts
        return OutputMetadata(
            versions={"lily": VERSION, "torch": torch.__version__},
            settings=facts.settings,
            cutoffs=facts.cutoffs.in_seconds(self.sample_rate),
            channel_cutoffs=tuple(
                track.in_seconds(self.sample_rate) for track in facts.cutoffs.channels
            ),
            cutoff_source=facts.cutoff_source,
            generated=facts.generated,
            joins=self._joins,
            fade=self._fade,
            input=facts.input,
            output=OutputFile(
                sha256=self.sha256,
                sample_rate=self.sample_rate,
                channels=self.channels,
                samples=self.frames,
                subtype=self.subtype,
            ),
            measurements=self._meter.finish(),
        )
