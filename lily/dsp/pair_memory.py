"""Remember which highs came with which lows, and find them again for lows alone.

Where a recording, or a borrowed one, still has its highs, every frame of its log-mel is a pair: its
lows are the key, its highs the value. A frame that lost its highs looks up the pairs whose lows are
nearest. How much they count falls with their distance, and with the error of a test: the top of the
recorded band is recalled by the lows below it, as if it were missing. So a recording that is unlike
this one changes next to nothing. There is nothing to train.

The distance of two keys is the mean square of their difference in natural log magnitude, bins
weighted by 1 / (Hz + 200), which is about the spacing of the ear's bands. Values follow half of the
difference in level. Averaging keys over 50 ms matches spectra equally well but blurs attacks.

What is constant over a collection is borrowed too: where its recordings end, and their colour
(lily/dsp/lent_colour.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lily.dsp.lent_colour import coloured, silenced
from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz, sounding
from lily.dsp.unknown import UNKNOWN

MOST = 2048  # pairs of a recording: 20 s of consecutive frames, or every second frame of 40 s ...
BANDS_HZ = 200.0
KEY_END = 0.92  # x cutoff: above it, a recording may be falling already
VALUE_START = 1.2  # x cutoff: a pair that is not known up to here is not used
NEAREST = 16
TEMPERATURE = 0.2  # of the weights among the nearest, in units of the distance
LEVEL_SHARE = 0.5  # of a difference in level that the highs follow
# By held-out recordings, with pairs of their own, of their collection and of another one: beyond a
# distance of 0.7, and where the recorded top is missed by 7 dB, pairs begin to be no better than
# the U-Net; lows that are the same need no test. The test takes most of the harm that another
# collection's pairs do, and a tenth of what the same collection's gain.
TRUSTED, STEEPNESS = 0.7, 3.0
MISSED_DB, MISSED_STEEPNESS = 7.0, 4.0
SAME = 0.1  # a distance: well below it the test counts little
TESTED = (0.55, 0.9)  # x cutoff: what the test recalls, from bins below half of the cutoff


@dataclass(frozen=True)
class Pairs:
    """Frames of recordings, and which of their bins are known."""

    log_mel: Tensor  # (N, M)
    known: Tensor  # (N, M) bool
    hz: Tensor  # (M,) centres of the bins
    borrowed: Tensor  # (N,) bool: frames of other recordings
    ended: Tensor  # (N, M) bool: bins above the end of another recording, known as silent

    @classmethod
    def joined(cls, several: Sequence[Pairs]) -> Pairs:
        """The pairs of several recordings."""
        log_mel, known, borrowed, ended = (
            torch.cat([getattr(pairs, name) for pairs in several])
            for name in ("log_mel", "known", "borrowed", "ended")
        )
        return cls(log_mel, known, several[0].hz, borrowed, ended)

    def mismatched(self, cutoff_hz: float, generator: torch.Generator) -> Pairs:
        """The same lows below a cutoff with each other's highs: a control."""
        order, low = torch.randperm(len(self.known), generator=generator), self.hz < cutoff_hz
        log_mel = torch.where(low, self.log_mel, self.log_mel[order])
        known = self.known & self.known[order]
        ended = known & torch.where(low, self.ended, self.ended[order])
        return replace(self, log_mel=log_mel, known=known, ended=ended)

    def above(self, cutoff_hz: float) -> _Lookup | None:
        """What is known above a cutoff; None if nothing is."""
        key, start = self.hz < KEY_END * cutoff_hz, int((self.hz < VALUE_START * cutoff_hz).sum())
        if not key.any() or start == len(self.hz) or not self.known[:, max(start, 1) - 1].any():
            return None  # the usual case, without a look at the other bins
        usable = self.known[:, :start].all(1)
        if not usable.any():
            return None
        tested = (self.hz >= TESTED[0] * cutoff_hz) & (self.hz < TESTED[1] * cutoff_hz)
        lower = self.hz < KEY_END * cutoff_hz / 2
        keys = [_Keys.of(self.log_mel[usable], self.hz, mask) for mask in (key, lower)]
        borrowed, ended = self.borrowed[usable], self.ended[usable]
        known = self.known[usable]
        return _Lookup(self.log_mel[usable], known, borrowed, ended, *keys, tested)


class PairMemory:
    """Collect pairs from a recording's log-mel, at most ``MOST``, evenly over its length."""

    def __init__(self, mel: LogMel) -> None:
        self.mel, self._hz = mel, bin_centres_hz(mel).float().cpu()
        self._next = 0  # index of the next frame
        self._stride = 1
        self._frames: list[Tensor] = []  # (N, M) each
        self._places: list[Tensor] = []  # (N,) each, the indices of those frames

    def push(self, log_mel: Tensor) -> None:
        """Take the next frames (L, M), their unknown bins marked."""
        chosen = slice(-self._next % self._stride, None, self._stride)
        frames = log_mel[chosen]
        places = torch.arange(self._next, self._next + len(log_mel))[chosen]
        sounding = frames.amax(1) > LOG_FLOOR
        self._frames.append(frames[sounding])
        self._places.append(places[sounding])
        self._next += len(log_mel)
        while sum(map(len, self._places)) > MOST:
            self._stride *= 2
            frames, places = torch.cat(self._frames), torch.cat(self._places)
            kept = places % self._stride == 0
            self._frames, self._places = [frames[kept]], [places[kept]]

    def finish(self, borrowed: bool = False, end_hz: float | None = None) -> Pairs | None:
        """The pairs, of another recording if ``borrowed``; None for one without sound.

        Above ``end_hz``, where the original of that recording ended, its silence is known.
        """
        if not sum(map(len, self._places)):
            return None
        frames = torch.cat(self._frames)
        known, others = frames > UNKNOWN, torch.full((len(frames),), borrowed)
        ended = torch.zeros_like(known)
        if end_hz is not None:
            ended[:, self.mel.first_bin_above(end_hz) :] = True
        return Pairs(frames.clamp(min=LOG_FLOOR), known | ended, self._hz, others, ended)


@dataclass(frozen=True)
class _Keys:
    """The lows of pairs, by which they are found."""

    values: Tensor  # (N, K)
    below: Tensor  # (M,) bool: their bins
    weights: Tensor  # (K,) summing to 1

    @classmethod
    def of(cls, log_mel: Tensor, hz: Tensor, below: Tensor) -> _Keys:
        weights = 1 / (hz[below] + BANDS_HZ)
        return cls(log_mel[:, below], below, weights / weights.sum())

    def nearest(self, low: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For frames (T, M): the pairs nearest to them, (T, k).

        Returns their distances, places and weights, and what is added to their highs.
        """
        wanted, scale = low[:, self.below], self.weights.sqrt()
        distances = torch.cdist(wanted * scale, self.values * scale).square()  # (T, N)
        nearest, places = distances.topk(min(NEAREST, len(self.values)), largest=False)
        weights = torch.softmax((nearest[:, :1] - nearest) / TEMPERATURE, 1)
        levels, own_levels = wanted @ self.weights, self.values @ self.weights
        return nearest, places, weights, LEVEL_SHARE * (levels[:, None] - own_levels[places])


@dataclass(frozen=True)
class _Lookup:
    """The pairs that know something above one cutoff."""

    log_mel: Tensor  # (N, M)
    known: Tensor  # (N, M) bool
    borrowed: Tensor  # (N,) bool
    ended: Tensor  # (N, M) bool
    keys: _Keys  # of all bins below the cutoff
    lower_keys: _Keys  # of those below half of it
    tested: Tensor  # (M,) bool: bins between, which the recording has

    def recall(self, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For frames (T, M): log-mels (T, M) and how much they count, from 0 to 1, bin by bin.

        The last of (T, M) is the part of that which borrowed recordings have.
        """
        nearest, places, weights, shifts = self.keys.nearest(low)
        distance = nearest[:, :1]
        missed_db = self.missed_db(low)[:, None] * distance / (distance + SAME)
        trust = 1 / (1 + (distance / TRUSTED) ** STEEPNESS)
        trust = trust / (1 + (missed_db / MISSED_DB) ** MISSED_STEEPNESS)
        each = weights[..., None] * self.known[places]  # (T, k, M)
        share = each.sum(1)
        found = (each * (self.log_mel[places] + shifts[..., None])).sum(1)
        lent = torch.zeros_like(share)
        if self.borrowed.any():
            lent = (each * self.borrowed[places][..., None]).sum(1)
            found = found - (each * self.ended[places] * shifts[..., None]).sum(1)
        return found / share.clamp(min=1e-6), trust * share, trust * lent

    @property
    def above_end(self) -> Tensor:
        """The bins (M,) that some recording knows to be silent, and none to have sounded."""
        return self.ended.any(0) & ~(self.known & ~self.ended).any(0)

    def missed_db(self, low: Tensor) -> Tensor:
        """The error (T,) with which the lows of frames (T, M) recall the recorded band's top."""
        if not self.tested.any() or not self.lower_keys.below.any():
            return torch.zeros(len(low))
        _, places, weights, shifts = self.lower_keys.nearest(low)
        values = self.log_mel[:, self.tested][places] + shifts[..., None]  # (T, k, bins)
        recalled = (weights[..., None] * values).sum(1)
        return (recalled - low[:, self.tested]).square().mean(1).sqrt() * NEPER_DB


class PairRecall:
    """Blend generated log-mels with what the pairs of a recording recall."""

    def __init__(self, pairs: Pairs, mel: LogMel) -> None:
        self.pairs, self.mel = pairs, mel
        self._lookups: dict[float, _Lookup | None] = {}
        self._lent, self._bins = 0.0, 0  # of bins above the cutoff of frames that sound: summed

    @property
    def borrowed_share(self) -> float | None:
        """How much borrowed recordings have counted, from 0 to 1, above the cutoff on average.

        None before the first frame.
        """
        return self._lent / self._bins if self._bins else None

    def blend(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """``generated`` (T, M) and the recording's own ``low`` (T, M), cutoffs (T,) in Hz."""
        blended, heard = generated, sounding(low, self.pairs.hz)
        for cutoff_hz in cutoffs_hz.unique().tolist():
            if cutoff_hz not in self._lookups:
                self._lookups[cutoff_hz] = self.pairs.above(cutoff_hz)
            lookup, here = self._lookups[cutoff_hz], cutoffs_hz == cutoff_hz
            above = self.pairs.hz >= cutoff_hz
            self._bins += int(above.sum()) * int((heard & here).sum())
            if lookup is not None:
                values, share, lent = lookup.recall(low[here])
                blended = generated.clone() if blended is generated else blended
                own = generated[here]
                if lookup.borrowed.any():
                    own = coloured(own, values, lent, heard[here])
                    own = silenced(own, lookup.above_end, heard[here])
                blended[here] = torch.lerp(own, values, share)
                self._lent += float(lent[heard[here]][:, above].sum())
        return blended
