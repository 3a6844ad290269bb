"""Detect cutoff and segments of one signal, from its statistics with and without clicks."""

from __future__ import annotations

from torch import Tensor

from lily.bandwidth.cutoff import STEEP, Cutoff
from lily.bandwidth.images import ImageDetector
from lily.bandwidth.statistics import BandStatistics, Limits, Segments, lower
from lily.bandwidth.tones import ToneMeter


class Track:
    """Collect the statistics of one signal, with and without its clicks."""

    def __init__(self, bin_hz: float, bins: int, hop_seconds: float, nyquist_hz: float) -> None:
        """``hop_seconds`` is the distance between frames."""
        self._nyquist_hz = nyquist_hz
        self._statistics = BandStatistics(bin_hz, bins, hop_seconds)
        self._declicked: BandStatistics | None = None  # from the first click on
        self._images = ImageDetector(bin_hz, nyquist_hz)
        self._tones = ToneMeter(bin_hz)
        # What was found in the frames so far, by the noise ceiling; detecting takes 30 ms a minute.
        self._found_cutoffs: dict[float, Cutoff] = {}
        self._found_segments: dict[float, Segments] = {}

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._statistics.frames

    @property
    def nbytes(self) -> int:
        """Size of everything kept so far, in bytes."""
        declicked = self._declicked.nbytes if self._declicked else 0
        return self._statistics.nbytes + declicked + self._tones.nbytes

    @property
    def only_tones(self) -> bool:
        """Whether the signal is a few tones, which say nothing of where its band ends."""
        return self._tones.only_tones

    def add(self, power: Tensor, declicked: Tensor | None) -> None:
        """Add frames of power (L, F); ``declicked``: the same without its clicks."""
        self._found_cutoffs.clear()
        self._found_segments.clear()
        if self._declicked is None and declicked is not None:
            self._declicked = self._statistics.copy()
        if self._declicked:
            self._declicked.add(power if declicked is None else declicked)
        self._statistics.add(power)
        self._images.add(power)
        self._tones.add(power)

    def cutoff(self, noise_ceiling_db: float) -> Cutoff:
        """Detect the cutoff; ``noise_ceiling_db`` is the highest level of quantisation noise.

        Of a few tones it is the Nyquist frequency.
        """
        if noise_ceiling_db not in self._found_cutoffs:
            self._found_cutoffs[noise_ceiling_db] = self._whole(noise_ceiling_db)
        return self._found_cutoffs[noise_ceiling_db]

    def segments(self, noise_ceiling_db: float) -> Segments:
        """Detect segments as (start in seconds, cutoff in Hz); a single one has `cutoff`'s."""
        if noise_ceiling_db not in self._found_segments:
            self._found_segments[noise_ceiling_db] = self._parts(noise_ceiling_db)
        return self._found_segments[noise_ceiling_db]

    def _whole(self, noise_ceiling_db: float) -> Cutoff:
        if self.only_tones:
            return Cutoff(self._nyquist_hz)
        found = self._cutoff(Limits(self._nyquist_hz, noise_ceiling_db))
        old_nyquist_hz = self._images.nyquist_hz()
        if old_nyquist_hz:
            below = self._cutoff(Limits(old_nyquist_hz, noise_ceiling_db, truncated=True))
            # Where images begin, the recording itself ends.
            found = lower(found, below if below.order else Cutoff(below.hz, STEEP))
        return found

    def _parts(self, noise_ceiling_db: float) -> Segments:
        if self.only_tones:
            return ((0.0, self._nyquist_hz),)
        limits, whole_hz = self._limits(noise_ceiling_db), self.cutoff(noise_ceiling_db).hz
        found = self._statistics.segments(whole_hz, limits)
        if self._declicked:  # clicks hide narrow segments, or parts of them
            declicked = self._declicked.segments(whole_hz, limits.steep())
            found = declicked if len(declicked) > 1 else found
        return found

    def _cutoff(self, limits: Limits) -> Cutoff:
        found = self._statistics.cutoff(limits)
        if self._declicked:  # what is left without clicks counts only if it ends at an edge
            found = lower(found, self._declicked.cutoff(limits.steep()))
        return found

    def _limits(self, noise_ceiling_db: float) -> Limits:
        old_nyquist_hz = self._images.nyquist_hz()
        return Limits(old_nyquist_hz or self._nyquist_hz, noise_ceiling_db, bool(old_nyquist_hz))
