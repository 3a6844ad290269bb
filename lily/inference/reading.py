"""The passes over a recording: its analysis, the encoder's context, the log-mels of its chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from lily.audio.read import DecodeWarning, probe, read_blocks, read_tags
from lily.audio.tags import Tags
from lily.dsp.blocks import ahead, joined
from lily.dsp.pair_memory import PairMemory, Pairs
from lily.errors import InputError
from lily.inference.analyze import (
    Analysis,
    Analyzer,
    prepare_as_audiosr,
    resampled_blocks,
    share_meter,
)
from lily.inference.borrowed import BorrowedRecording
from lily.inference.events import ContextRead, Reading
from lily.inference.features import FeatureExtractor, passed
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import PROFILES
from lily.inference.runtime import Runtime
from lily.model import recording_profile
from lily.model.global_encoder import BLOCK, ContextReader, GlobalContext

# Up to this size, what a pass reads is kept for the next: 4.6 minutes in stereo at 48 kHz.
# Recordings are read one after the other, so a batch of them holds it once.
KEPT_BYTES = 256 * 2**20


class RecordingReader:
    """Reads one recording, as often as its passes need."""

    analysis: Analysis  # after ``analyze``
    tags: Tags  # after ``analyze``, as the file has them
    features: FeatureExtractor  # after ``prepare``
    context: GlobalContext  # after ``read_context``
    expectation: str = ""  # the profile it reads, as a sentence, after ``read_context``

    def __init__(self, runtime: Runtime, path: Path, options: UpsampleOptions) -> None:
        self.runtime, self.path, self.options = runtime, path, options
        self.borrowed = [BorrowedRecording(runtime, path) for path in options.context_files]
        # For each log-mel: the blocks and the band-limited samples that it was made from, and it.
        self._kept: deque[tuple[list[Tensor], list[Tensor], Tensor]] = deque()
        # The blocks (C, n) of pass 1 at the model's rate; None for a recording that is too long.
        self._blocks: deque[Tensor] | None = deque()
        self._heard = 0  # samples of them

    def blocks(self, last: bool = True) -> Iterator[Tensor]:
        """The recording's blocks (C, n) at the model's rate, the same ones every time.

        After the ``last`` time, what was kept of them is gone.
        """
        if not self._blocks:
            yield from ahead(resampled_blocks(self.path, self.runtime.sample_rate))
        elif not last:
            yield from self._blocks
        else:
            while self._blocks:
                yield self._blocks.popleft()

    def analyze(self) -> Iterator[Reading]:
        """Pass 1: measure length, level and cutoffs. Raises InputError."""
        rate, info = self.runtime.sample_rate, probe(self.path)
        frames = (info.seconds or 0.0) * rate / self.runtime.mel.config.hop
        if not self._fits(frames, info.channels):  # keep nothing of a long one
            self._blocks = None
        analyzer = Analyzer(self.path.name, info, rate, self.options, self._hear)
        for block in ahead(read_blocks(self.path, on_warning=analyzer.warn)):
            analyzer.push(block)
            yield Reading(analyzer.seconds)
        try:
            self.tags = read_tags(self.path)
        except InputError:  # its samples were decoded: they are not lost for its tags
            self.tags = Tags()
            analyzer.warn(DecodeWarning("Its tags cannot be read and are not kept."))
        self.analysis = analyzer.finish()
        cutoff_hz, wall_hz = self.analysis.cutoff_hz, self.options.wall_hz
        unchanged = self.analysis.unchanged
        if wall_hz is not None and not wall_hz > cutoff_hz and not unchanged:
            raise InputError(
                f"The wall is {wall_hz:.10g} Hz; give more than the cutoff of {cutoff_hz:.0f} Hz."
            )
        if not unchanged:
            for other in self.borrowed:
                yield from other.analyze(self.analysis)

    def prepare(self, seed: int) -> Iterator[Reading]:
        """Apply the profile's own rules for level and cutoff, which may need another reading."""
        if PROFILES[self.options.profile].prepares:
            share, seen = None, 0
            if self.options.cutoff_hz is None:
                share = share_meter(self.analysis)
                for block in self.blocks(last=False):
                    share.push(block)
                    seen += block.shape[-1]
                    yield Reading(seen / self.runtime.sample_rate)
            self.analysis = prepare_as_audiosr(self.analysis, self.options, seed, share)
        level_peak = self.runtime.settings.level_peak
        self.features = FeatureExtractor(self.runtime.mel, self.analysis, level_peak)

    def read_context(self) -> Iterator[ContextRead]:
        """Pass 2: read the whole recording, all channels in one, into its context.

        Borrowed recordings add their pairs of lows and highs. In the profile, a wall that the
        options give is set.
        """
        encoder = self.runtime.model.unet.global_encoder
        assert encoder is not None  # options with the encoder on are refused without one
        profile = encoder.config.profile
        remembers = profile and self.runtime.settings.pair_memory  # pairs need the marks
        total = self.features.frames
        reader, memory, seen = ContextReader(encoder, total), PairMemory(self.runtime.mel), 0
        log_mels = ahead(joined(self._first_log_mels(), BLOCK))  # made while the encoder reads
        for frames in self.features.encoder_log_mels(log_mels, marked=profile):
            reader.push(frames)
            if remembers:
                memory.push(frames)
            seen += len(frames)
            yield ContextRead(min(1.0, seen / total))
        self.context = reader.finish()
        if remembers:
            several = [memory.finish(), *(other.pairs() for other in self.borrowed)]
            known = [pairs for pairs in several if pairs is not None]
            self.context = replace(self.context, pairs=Pairs.joined(known) if known else None)
        if profile:
            self._set_profile()

    def log_mels(
        self, record: Callable[[Tensor], None], hear: Callable[[Tensor], None]
    ) -> Iterator[Tensor]:
        """Pass 3: the log-mels (C, l, M) of the channels, from the first on.

        Before each of them ``record`` gets the recording's blocks (C, n) and ``hear`` the
        band-limited samples that it is made from. What pass 2 kept is used up.
        """
        if not self._kept:
            yield from self.features.log_mels(passed(self.blocks(), record), hear)
        while self._kept:
            blocks, limited, log_mel = self._kept.popleft()
            for block in blocks:
                record(block)
            for samples in limited:
                hear(samples)
            yield log_mel

    def _hear(self, block: Tensor) -> None:
        """Keep a block (C, n) of pass 1, if the recording fits so far."""
        self._heard += block.shape[1]
        if not self._fits(self._heard / self.runtime.mel.config.hop, len(block)):
            self._blocks = None
        if self._blocks is not None:
            self._blocks.append(block)

    def _fits(self, frames: float, channels: int) -> bool:
        """Whether so many log-mel frames, and their samples as they are and limited, are kept."""
        mel = self.runtime.mel.config
        return 4 * frames * channels * (2 * mel.hop + mel.n_mels) <= KEPT_BYTES

    def _first_log_mels(self) -> Iterator[Tensor]:
        """The log-mels of pass 2, kept for pass 3 if they are small."""
        if not self._fits(self.features.frames, self.analysis.info.channels):
            yield from self.features.log_mels(self.blocks())
            return
        blocks: list[Tensor] = []
        limited: list[Tensor] = []
        recorded = passed(self.blocks(), blocks.append)
        for log_mel in self.features.log_mels(recorded, limited.append):
            self._kept.append((blocks.copy(), limited.copy(), log_mel))
            blocks.clear()
            limited.clear()
            yield log_mel

    def _set_profile(self) -> None:
        wall_hz = self.options.wall_hz
        if wall_hz is not None:
            self.context = recording_profile.with_wall(self.context, wall_hz)
        self.expectation = recording_profile.sentence(
            self.context, self.analysis.cutoff_hz, wall_hz
        )
