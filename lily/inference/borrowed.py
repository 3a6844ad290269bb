"""A borrowed recording: another one of the same source, whose lows and highs are remembered too.

It is analyzed like the recording itself, so that its own cutoff is known, and brought to the same
level. Only its beginning is read: what is constant over a collection shows in a few minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from lily.audio.read import probe, read_blocks
from lily.audio.resample import Resampler
from lily.audio.sample_hash import AudioHash
from lily.bandwidth.diagnosis import SILENT_PEAK
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.dsp.pair_memory import PairMemory, Pairs
from lily.errors import InputError
from lily.inference.analyze import Analysis, Analyzer
from lily.inference.events import ContextUse, Reading
from lily.inference.features import FeatureExtractor
from lily.inference.generate import Chunker
from lily.inference.options import UpsampleOptions
from lily.inference.runtime import Runtime

LONGEST_SECONDS = 180.0  # read of a borrowed recording
WIDER = 1.1  # its cutoff against the recording's: less would add nothing
# From here on its cutoff is taken for the end of the original, as codecs and broadcasts leave it;
# one that ends lower has lost highs itself, which says nothing of the recording's.
ENDS_FROM_HZ = 15_000.0


def context_use(options: UpsampleOptions, chunker: Chunker) -> ContextUse | None:
    """Which recordings a run has borrowed, and how far they counted; None without any."""
    files = tuple(path.name for path in options.context_files)
    return ContextUse(files, chunker.borrowed_share) if files else None


def context_sha256(path: Path) -> str:
    """The hash of a borrowed recording, as far as it is read; raises InputError."""
    return AudioHash.of(probe(path), _blocks(path))


def _blocks(path: Path) -> Iterator[Tensor]:
    """Blocks (C, n) at the file's own rate, up to the longest that is read."""
    left = round(LONGEST_SECONDS * probe(path).sample_rate)
    for block in read_blocks(path):
        yield block[:, :left]
        left -= block.shape[-1]
        if left <= 0:
            return


class BorrowedRecording:
    """The beginning of a recording whose highs inform those of another."""

    analysis: Analysis  # after ``analyze``
    features: FeatureExtractor

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self.runtime, self.path = runtime, path

    def analyze(self, recording: Analysis) -> Iterator[Reading]:
        """Measure level and cutoff; raises InputError if it adds nothing to ``recording``."""
        name, rate = self.path.name, self.runtime.sample_rate
        analyzer = Analyzer(name, probe(self.path), rate, UpsampleOptions())
        for block in _blocks(self.path):
            analyzer.push(block)
            yield Reading(recording.seconds)
        self.analysis = analyzer.finish()
        if self.analysis.peak < SILENT_PEAK:
            raise InputError(f"The context {name} is silent; give a recording that is not.")
        if self.analysis.diagnosis.kind == "tones":
            raise InputError(
                f"The context {name} is a few tones; give a recording of the same kind of sound."
            )
        if self.analysis.cutoffs.lowest_hz < WIDER * recording.cutoff_hz:
            raise InputError(
                f"The context {name} ends at {self.analysis.cutoff_hz:.0f} Hz and the recording at "
                f"{recording.cutoff_hz:.0f} Hz; give a recording that still has its highs."
            )
        self.features = FeatureExtractor(
            self.runtime.mel, self.analysis, self.runtime.settings.level_peak
        )

    def pairs(self) -> Pairs | None:
        """Its lows and highs; None if nothing sounds."""
        memory = PairMemory(self.runtime.mel)
        log_mels = self.features.log_mels(self._resampled())
        for frames in self.features.encoder_log_mels(log_mels, marked=True):
            memory.push(frames)
        return memory.finish(borrowed=True, end_hz=self._end_hz())

    def _end_hz(self) -> float | None:
        """Where the highs of its original ended; None if they reach further or were lost."""
        highest_hz = self.analysis.cutoffs.distinct_hz[-1]
        return highest_hz if ENDS_FROM_HZ <= highest_hz < FULL_BAND_HZ else None

    def _resampled(self) -> Iterator[Tensor]:
        resampler = Resampler(self.analysis.info.sample_rate, self.runtime.sample_rate)
        for block in _blocks(self.path):
            yield resampler.push(block)
        yield resampler.flush()
