"""Passes 1 and 2 over a recording: its analysis, and the context for the global encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from lily.audio.read import probe, read_blocks
from lily.inference.analyze import (
    Analysis,
    Analyzer,
    prepare_as_audiosr,
    resampled_blocks,
    share_meter,
)
from lily.inference.events import ContextRead, Reading
from lily.inference.features import FeatureExtractor
from lily.inference.options import UpsampleOptions
from lily.inference.profiles import PROFILES
from lily.inference.runtime import Runtime
from lily.model.global_encoder import ContextReader, GlobalContext


class RecordingReader:
    """Reads one recording, as often as its passes need."""

    analysis: Analysis  # after ``analyze``
    features: FeatureExtractor  # after ``prepare``
    context: GlobalContext  # after ``read_context``

    def __init__(self, runtime: Runtime, path: Path, options: UpsampleOptions) -> None:
        self.runtime, self.path, self.options = runtime, path, options

    def blocks(self) -> Iterator[Tensor]:
        """The recording's blocks (C, n) at the model's rate, the same ones every time."""
        return resampled_blocks(self.path, self.runtime.sample_rate)

    def analyze(self) -> Iterator[Reading]:
        """Pass 1: measure length, level and cutoffs. Raises InputError."""
        rate = self.runtime.sample_rate
        analyzer = Analyzer(self.path.name, probe(self.path), rate, self.options)
        for block in read_blocks(self.path):
            analyzer.push(block)
            yield Reading(analyzer.seconds)
        self.analysis = analyzer.finish()

    def prepare(self, seed: int) -> Iterator[Reading]:
        """Apply the profile's own rules for level and cutoff, which may need another reading."""
        if PROFILES[self.options.profile].prepares:
            share, seen = None, 0
            if self.options.cutoff_hz is None:
                share = share_meter(self.analysis)
                for block in self.blocks():
                    share.push(block)
                    seen += block.shape[-1]
                    yield Reading(seen / self.runtime.sample_rate)
            self.analysis = prepare_as_audiosr(self.analysis, self.options, seed, share)
        level_peak = self.runtime.settings.level_peak
        self.features = FeatureExtractor(self.runtime.mel, self.analysis, level_peak)

    def read_context(self) -> Iterator[ContextRead]:
        """Pass 2: read the whole recording, mixed to one channel, into its context."""
        encoder, total, seen = self.runtime.model.unet.global_encoder, self.features.frames, 0
        assert encoder is not None  # options with the encoder on are refused without one
        reader = ContextReader(encoder, total)
        for frames in self.features.mixed_log_mels(self.blocks()):
            reader.push(frames[0])
            seen += frames.shape[1]
            yield ContextRead(min(1.0, seen / total))
        self.context = reader.finish()
