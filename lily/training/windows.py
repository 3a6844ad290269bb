"""Windows of albums: what the encoder reads of a recording, and chunks of it to be filled in.

A window is one recording as the encoder meets it at inference: band-limited, perhaps wide in parts,
perhaps followed by a full-band clip of the same source, its unknown bins marked. Its chunks lie
around places where it is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.config.presets import MEL_FRAMES_PER_LATENT, MelConfig
from lily.config.training import TrainingConfig
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.dsp.mel import LogMel, bin_centres_hz
from lily.dsp.unknown import UnknownBins
from lily.model.recording_profile import COUNT, EDGE, LEVELS, measure
from lily.training.corpus import Corpus

KNOWN_WEIGHT = 0.25  # of latent bins below the cutoff in the diffusion's loss
EARLY_EDGE_HZ = 18_000.0  # originals that end below it teach nothing above their edge
DETECTED_EDGE = 0.3  # share of wide parts whose band is taken to end at the original's edge
BORROWED_SECONDS = (4.0, 40.0)  # of a full-band clip after a window
UNIT = MEL_FRAMES_PER_LATENT


@dataclass(frozen=True)
class Row:
    """A chunk: latents (L, z, M'), the original's log-mel (T, M), narrow frames (T,), a place."""

    target: Tensor
    low: Tensor
    log_mel: Tensor
    narrow: Tensor
    seconds: float  # from the start of the window


@dataclass(frozen=True)
class Window:
    """A recording for the encoder, with what is asked of it and what is known of its profile."""

    context: Tensor  # (T, M), unknown bins marked
    original: Tensor  # (T, M), full-band
    length: int  # frames that are real, the borrowed clip included
    profile: Tensor  # (12,), NaN where the original has none
    known: Tensor  # (12,), NaN where the profile is not set
    needs_context: bool  # altered in a way that only the context or the profile tells
    cutoff_hz: float
    edge_hz: float  # of the original
    rows: list[Row]


@dataclass(frozen=True)
class Draws:
    """Shares and sizes that a stage draws its windows with."""

    frames: int  # mel frames of a chunk
    chunks: int  # rows that share one window
    changing: float  # share of windows that are wide in parts


class WindowDrawer:
    """Draw windows of a corpus; everything random comes from the generator of each call."""

    def __init__(self, recipe: TrainingConfig, draws: Draws) -> None:
        self.recipe, self.draws = recipe, draws
        self.mel = LogMel(MelConfig())
        self.unknown = UnknownBins(self.mel)
        self.bins_hz = bin_centres_hz(self.mel)

    def draw(self, corpus: Corpus, window: int, generator: torch.Generator) -> Window:
        """A window of an album, at most ``window`` frames and a borrowed clip long."""
        album, frames = corpus.draw_album(generator), self.draws.frames
        total = corpus.frames[album] // UNIT * UNIT
        first = _integer(max(total - window, 0) // UNIT + 1, generator) * UNIT
        length = min(window, total - first)
        original = corpus.crop(album, "target", first, length)
        narrow = torch.ones(-(-length // UNIT), dtype=torch.bool)
        if _uniform(generator) < self.draws.changing:
            narrow = narrow_parts(length, frames, generator)
        wide = ~narrow.repeat_interleave(UNIT)[:length]
        context = corpus.crop(album, "low", first, length)
        context[wide] = original[wide]
        cutoffs = torch.full((length,), corpus.cutoffs_hz[album], dtype=torch.float64)
        cutoffs[wide] = self._detected(corpus.edges_hz[album], generator)
        holes = self.unknown.holes(context, cutoffs)
        share = float(holes[~wide].float().mean())
        profile = measure(original, self.bins_hz, share)
        borrowed, own = self._borrowed(corpus, album, (first, first + length), generator)
        answered = bool(wide.any()) or own  # the context itself shows how the original is
        altered = corpus.altered[album]
        return Window(
            context=torch.cat([self.unknown.mark(context, cutoffs), *(b[0] for b in borrowed)]),
            original=torch.cat([original, *(b[1] for b in borrowed)]),
            length=length + sum(len(b[0]) for b in borrowed),
            profile=profile,
            known=self._known(profile, altered and not answered, generator),
            needs_context=altered,
            cutoff_hz=corpus.cutoffs_hz[album],
            edge_hz=corpus.edges_hz[album],
            rows=self._rows(corpus, album, (first, length), narrow, generator),
        )

    def _detected(self, edge_hz: float, generator: torch.Generator) -> float:
        """The cutoff of a wide part: none, or where a detector finds the end of the original."""
        chosen = _uniform(generator) < DETECTED_EDGE
        return edge_hz if chosen else 2 * FULL_BAND_HZ

    def _borrowed(
        self,
        corpus: Corpus,
        album: int,
        used: tuple[int, int],
        generator: torch.Generator,
    ) -> tuple[list[tuple[Tensor, Tensor]], bool]:
        """A full-band clip, marked and as it is, if one is drawn; whether of the same album."""
        chance, recipe = _uniform(generator), self.recipe
        low, high = (math.log(s) for s in BORROWED_SECONDS)
        size = round(math.exp(low + _uniform(generator) * (high - low)) * 100) // UNIT * UNIT
        if chance > recipe.borrowed + recipe.strangers:
            return [], False
        source = corpus.albums[album].source
        alike = chance < recipe.borrowed
        places = [
            place for place in ((0, used[0]), (used[1], corpus.frames[album])) if _long(place, size)
        ]
        own = alike and bool(places) and _uniform(generator) < 0.75
        if not own:
            others = [
                i
                for i, a in enumerate(corpus.albums)
                if i != album and (a.source == source) == alike and not (alike and a.under)
            ]
            if not others:
                return [], False
            album = others[_integer(len(others), generator)]
            places = [(0, corpus.frames[album])]
        start, stop = places[_integer(len(places), generator)]
        size = min(size, stop - start)
        start += _integer(stop - start - size + 1, generator)
        clip = corpus.crop(album, "target", start, size)
        hz = self._detected(corpus.edges_hz[album], generator)
        cutoffs = torch.full((size,), hz, dtype=torch.float64)
        return [(self.unknown.mark(clip, cutoffs), clip)], own

    def _known(self, profile: Tensor, required: bool, generator: torch.Generator) -> Tensor:
        """The figures of the profile that are set: none, all, the edge, the levels, or both."""
        chance, kind = _uniform(generator), _uniform(generator)
        known = torch.full((COUNT,), math.nan)
        if required or (chance < self.recipe.profiles_set and kind < 0.4):
            return profile.clone()
        if chance < self.recipe.profiles_set:
            if kind < 0.8:
                known[EDGE] = profile[EDGE]
            if kind >= 0.6:
                known[LEVELS] = profile[LEVELS]
        return known

    def _rows(
        self,
        corpus: Corpus,
        album: int,
        place: tuple[int, int],
        narrow: Tensor,
        generator: torch.Generator,
    ) -> list[Row]:
        """Chunks around places where the recording is narrow: elsewhere nothing is missing."""
        first, length = place
        count, places = self.draws.frames // UNIT, narrow.nonzero()[:, 0]
        rows = []
        for _ in range(self.draws.chunks):
            middle = int(places[_integer(len(places), generator)])
            earliest = max(0, middle - count + 1)
            latest = max(0, min(middle, length // UNIT - count))
            bounds = (min(earliest, latest), latest)
            start = corpus.draw_start(
                album, "low", (first + bounds[0] * UNIT, first + bounds[1] * UNIT), UNIT, generator
            )
            own = (start - first) // UNIT
            target = corpus.crop(album, f"target.{corpus.latents}", start // UNIT, count)
            low = corpus.crop(album, f"low.{corpus.latents}", start // UNIT, count)
            kept = narrow[own : own + count]
            low[: len(kept)][~kept] = target[: len(kept)][~kept]
            lacking = torch.zeros(count, dtype=torch.bool)  # past the end there is nothing to learn
            lacking[: len(kept)] = kept
            log_mel = corpus.crop(album, "target", start, count * UNIT)
            rows.append(
                Row(target, low, log_mel, lacking.repeat_interleave(UNIT), own * UNIT * 0.01)
            )
        return rows

    def latent_weights(self, window: Window, bins: int) -> Tensor:
        """Weights (M',) of the latent bins in the loss: few below the cutoff, none past an early
        edge of the original, where its own silence is a defect."""
        per_bin = self.mel.config.n_mels // bins
        known = self.mel.first_bin_above(0.95 * window.cutoff_hz) // per_bin
        weight = torch.ones(bins)
        weight[:known] = KNOWN_WEIGHT
        if window.edge_hz < EARLY_EDGE_HZ:
            weight[-(-self.mel.first_bin_above(window.edge_hz) // per_bin) :] = 0.0
        return weight / weight.mean()

    def mel_weights(self, window: Window, known_weight: float) -> Tensor:
        """Weights (M,) of the mel bins by their width in Hz, as ``latent_weights`` otherwise."""
        width = torch.gradient(self.bins_hz)[0]
        weight = width / width.mean()
        weight[: self.mel.first_bin_above(window.cutoff_hz)] *= known_weight
        if window.edge_hz < EARLY_EDGE_HZ:
            weight[self.mel.first_bin_above(window.edge_hz) :] = 0.0
        return weight


def padded(frames: Sequence[Tensor]) -> Tensor:
    """Stack log-mels (T, M) of different lengths, each continued with its last row."""
    longest = max(len(x) for x in frames)
    return torch.stack([torch.cat([x, x[-1:].expand(longest - len(x), -1)]) for x in frames])


def whole_frames(seconds: float) -> int:
    """Mel frames of a crop: whole latent frames, and enough of them for the U-Net's strides."""
    unit = 8 * UNIT
    return max(1, round(seconds * 100 / unit)) * unit


def narrow_parts(length: int, frames: int, generator: torch.Generator) -> Tensor:
    """Where a recording of changing bandwidth lost its highs: (ceil(length / 8),) bool.

    One to three places cut the recording's ``length`` into parts that are wide and narrow in turn;
    at least ``frames`` of it are narrow. A recording too short for that is narrow throughout.
    """
    count = -(-length // UNIT)
    narrow = torch.ones(count, dtype=torch.bool)
    room = (length - frames) // UNIT
    if room < 1:
        return narrow
    cuts = 1 + _integer(3, generator)
    places = torch.randint(1, length // UNIT, (cuts,), generator=generator).sort().values.tolist()
    wide = bool(_integer(2, generator))
    edges = [0, *places, count]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        narrow[start:stop] = not wide
        wide = not wide
    if int(narrow[: length // UNIT].sum()) < frames // UNIT:
        narrow[:] = True
        narrow[: 1 + _integer(room, generator)] = False
    return narrow


def _long(place: tuple[int, int], size: int) -> bool:
    return place[1] - place[0] >= min(size, round(BORROWED_SECONDS[0] * 100))


def _integer(stop: int, generator: torch.Generator) -> int:
    return int(torch.randint(stop, (), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
