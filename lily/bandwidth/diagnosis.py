"""Diagnose a recording before anything is generated: what limits its bandwidth, and what to do.

The band may be full already, end with the recording's own sample rate, with a codec's low-pass,
with a lower sample rate it once had (up-sampled), with a filter, or change during the recording. A
codec is known from the file's format or from the holes it leaves: cells of 375 Hz and 43 ms, empty
while there is sound above them. Filters and rounding seldom leave holes in 1 % of the cells below
the cutoff; a codec that fills its holes with noise (AAC, Opus, Vorbis) leaves too few to be
detected from samples alone. Clipping is a plateau that is entered steeply; it is counted before any
resampling, which would round it. Frequencies are in Hz, times in seconds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lily.audio.read import AudioInfo
from lily.bandwidth.meter import BandwidthMeter
from lily.bandwidth.statistics import Segments
from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs

SILENT_PEAK = 10 ** (-100 / 20)  # -100 dBFS: below it there is nothing to fill in
OWN_RATE = 0.9  # x Nyquist, from which a cutoff is that of the sample rate
RATES = (
    8_000,
    11_025,
    12_000,
    16_000,
    22_050,
    24_000,
    32_000,
)  # common rates under 44.1 kHz
HOLES = 0.01  # share of cells; nine in ten low-passed clips stay under 0.003
CLIPPED_PEAKS = 10  # fewer plateaus may be coincidence
PLATEAU = 3  # samples of the same value
NEAR_EXTREME = 0.98  # x the largest value, from which a plateau counts
ENTRY = 0.02  # x the largest value per sample: rounded peaks of a bass are entered more gently
DC = 10 ** (-50 / 20)  # an offset from which it is mentioned
NAMED_SEGMENTS = 4  # the rest is counted
NAMED_REPAIRS = 4  # the rest is counted
OUTPUT_KHZ = 48  # sample rate of every output
ALIKE = 1.05  # ratio of cutoffs up to which channels are taken to end together
LOWEST_HZ = 500.0  # a channel that ends below has no band to fill: hum, a subwoofer
LOW_FREQUENCY = 0x8  # bit of a speaker mask
SPEAKER_NAMES = (  # by the bits of a speaker mask
    "front left", "front right", "centre", "LFE", "back left", "back right", "left of centre",
    "right of centre", "back centre", "side left", "side right",
)  # fmt: skip
LOSSY = {  # subtypes of libsndfile and codec names of FFmpeg
    "MPEG_LAYER_I": "MP1",
    "MPEG_LAYER_II": "MP2",
    "MPEG_LAYER_III": "MP3",
    "MP3FLOAT": "MP3",
    "AMRNB": "AMR",
    "AMRWB": "AMR-WB",
    "WMAV1": "WMA",
    "WMAV2": "WMA",
    "LIBOPUS": "Opus",
    "OPUS": "Opus",
    "VORBIS": "Vorbis",
    "GSM610": "GSM",
    "EAC3": "E-AC-3",
    "AC3": "AC-3",
} | {name: name for name in ("AAC", "MP3", "MP2", "DTS", "GSM", "ATRAC3", "ULAW", "ALAW")}


@dataclass(frozen=True)
class Diagnosis:
    """What limits a recording's bandwidth."""

    # "silent", "tones", "full", "own rate", "up-sampled", "low-passed", "lossy", "changing" or
    # "channels"
    kind: str
    segments: Segments  # of the channel that reaches highest
    codec: str  # from the file's format; empty if it is lossless
    holes: float  # share of empty time-frequency cells below the cutoff with sound above them
    clipped: int  # clipped peaks; 0 if too few to be sure
    dc: float  # largest DC offset of a channel, full scale 1.0
    text: str = ""  # the finding and what is done about it, in a sentence or two
    repairs: tuple[str, ...] = ()  # what decoding repaired or left out, a sentence each
    channels: tuple[Segments, ...] = ()  # segments of each channel, where they differ
    lost_hz: float = 0.0  # where sound above the output's band ends; 0 without any

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON; segments keep their public name, ``pieces``."""
        fields = asdict(self)
        return {"kind": fields.pop("kind"), "pieces": fields.pop("segments"), **fields}


class ClippingMeter:
    """Count clipped peaks in a stream of blocks (C, n) at the recording's own sample rate."""

    def __init__(self) -> None:
        self.peaks = 0
        self._extreme = 0.0
        self._rest: Tensor | None = None  # (C, PLATEAU), in which a plateau may begin

    def push(self, block: Tensor) -> None:
        """Add a block (C, n)."""
        joined = block if self._rest is None else torch.cat([self._rest, block], dim=-1)
        self._rest = joined[:, -PLATEAU:].clone()
        if joined.shape[-1] <= PLATEAU:
            return
        loudest = float(joined.abs().max())
        if NEAR_EXTREME * loudest > self._extreme:  # what was counted so far lies below the peak
            self.peaks = 0
        self._extreme = max(self._extreme, loudest)
        if loudest < NEAR_EXTREME * self._extreme:
            return
        count = joined.shape[-1] - PLATEAU
        before, first = joined[:, :count], joined[:, 1 : count + 1]
        high = first.abs() >= NEAR_EXTREME * self._extreme
        flat = high & ((first - before) * first.sign() >= ENTRY * self._extreme)
        for later in range(2, PLATEAU + 1):
            flat &= joined[:, later : later + count] == first
        if self._extreme > SILENT_PEAK:
            self.peaks += int(flat.sum())


def diagnose(
    info: AudioInfo, meter: BandwidthMeter, clipped: int, means: Tensor, peak: float
) -> Diagnosis:
    """Diagnose a recording from its meters.

    ``means`` (C, 1) is its DC, ``peak`` its peak without DC.
    """
    whole, segments, channels = meter.result(), meter.segments(), _channels(info, meter)
    nyquist = info.sample_rate / 2
    codec = LOSSY.get(info.subtype, "")
    dc = float(means.abs().max()) if means.numel() else 0.0
    holes = meter.holes(whole.cutoff_hz)
    if peak < SILENT_PEAK:
        kind = "silent"
    elif channels:
        kind = "channels"
    elif whole.tones:
        kind = "tones"
    elif len(segments) > 1:
        kind = "changing"
    elif whole.full:
        kind = "full"
    elif codec or holes >= HOLES:
        kind = "lossy"
    elif whole.cutoff_hz >= OWN_RATE * nyquist:
        kind = "own rate"
    elif whole.steep and _rate_of(whole.cutoff_hz):
        kind = "up-sampled"
    else:
        kind = "low-passed"
    clipped = clipped if clipped >= CLIPPED_PEAKS else 0
    return Diagnosis(kind, segments, codec, holes, clipped, dc, channels=channels)


def detected_cutoffs(info: AudioInfo, meter: BandwidthMeter, sample_rate: int) -> Cutoffs:
    """Return the cutoffs by which a recording is filled; a channel for low frequencies never is."""
    segments = _channels(info, meter) or (meter.segments(),) * info.channels
    tracks = [Cutoffs.from_seconds(own, sample_rate) for own in segments]
    low = _low_frequency_channel(info)
    if low is not None and len(tracks) > 1:
        tracks[low] = Cutoffs.constant(FULL_BAND_HZ)
    return Cutoffs.of_channels(tracks)


def _channels(info: AudioInfo, meter: BandwidthMeter) -> tuple[Segments, ...]:
    """The segments of each channel, where channels with sound of their own differ."""
    loudest, low = meter.segments(), _low_frequency_channel(info)
    channels = [
        loudest if place == low or min(hz for _, hz in own) < LOWEST_HZ else own
        for place, own in enumerate(meter.channel_segments())
    ]
    return _alike(channels) if any(own != loudest for own in channels) else ()


def _alike(channels: list[Segments]) -> tuple[Segments, ...]:
    """Give channels that end almost together the lower one's cutoff."""
    ends = sorted(own[0][1] for own in channels if len(own) == 1)
    shared: dict[float, float] = {}
    for end in ends:
        lowest = shared[max(shared)] if shared else end
        shared[end] = lowest if end <= ALIKE * lowest else end
    return tuple(((0.0, shared[own[0][1]]),) if len(own) == 1 else own for own in channels)


def _low_frequency_channel(info: AudioInfo) -> int | None:
    """The channel of the speaker for low frequencies (LFE), if the file names one."""
    mask = info.speakers or 0
    return (mask & (LOW_FREQUENCY - 1)).bit_count() if mask & LOW_FREQUENCY else None


def describe(
    found: Diagnosis, info: AudioInfo, lowest_hz: float | None, because: str = ""
) -> Diagnosis:
    """Add the diagnosis in words, and what is done: filling from ``lowest_hz``, None for nothing.

    ``because`` gives the reason where the cutoff was not detected.
    """
    does = _does(found, info, lowest_hz, because)
    said = [f"{_what(found, info.sample_rate)}{':' if does else ''} {does}".rstrip() + "."]
    if found.clipped:
        said.append(f"It is clipped at {found.clipped} peaks, which is not repaired.")
    if found.dc >= DC and found.kind != "silent":
        said.append(f"Its DC offset of {20 * math.log10(found.dc):.0f} dBFS is kept.")
    if found.lost_hz:
        said.append(
            f"Its sound above {OUTPUT_KHZ / 2:g} kHz, which reaches {_khz(found.lost_hz)}, is lost "
            f"at the output's {OUTPUT_KHZ:g} kHz."
        )
    said.extend(found.repairs[:NAMED_REPAIRS])
    if len(found.repairs) > NAMED_REPAIRS:
        said.append(f"{len(found.repairs) - NAMED_REPAIRS} more places were repaired.")
    return replace(found, text=" ".join(said))


def _rate_of(cutoff_hz: float) -> int:
    """Return the common sample rate whose Nyquist frequency explains ``cutoff_hz``, or 0."""
    fits = [rate for rate in RATES if OWN_RATE * rate / 2 <= cutoff_hz <= rate / 2]
    return fits[0] if fits else 0


def _what(found: Diagnosis, sample_rate: int) -> str:
    hz = found.segments[0][1]
    end, rate = _khz(hz), f"{sample_rate / 1000:g} kHz"
    return {
        "silent": "The recording is silent",
        "tones": "The recording is a few tones, which do not say where its band ends",
        "full": f"The band is already full up to {end}",
        "own rate": f"The band ends with the recording's own rate of {rate}",
        "up-sampled": (
            f"Up-sampled: a {rate} file that ends at {end}, as one of "
            f"{_rate_of(hz) / 1000:g} kHz does"
        ),
        "low-passed": f"Low-passed: a {rate} file that ends at {end}",
        "lossy": f"Lossy source ({found.codec or 'holes as codecs leave them'}, shelf at {end})",
        "changing": f"The bandwidth changes ({_steps(found.segments)})",
        "channels": "The channels end at different frequencies",
    }[found.kind]


def _does(found: Diagnosis, info: AudioInfo, lowest_hz: float | None, because: str) -> str:
    if lowest_hz is None:
        return ""
    if because:
        return f"filling from {_khz(lowest_hz)} {because}"
    if found.kind == "changing":
        wide = any(hz >= FULL_BAND_HZ for _, hz in found.segments)
        return "filling each part from its own end" + (", wide parts stay as they are" * wide)
    if found.kind == "channels":
        return _by_channel(found.channels, info)
    own = ", where its own rate ends" * (found.kind == "tones")
    return f"filling from {_khz(lowest_hz)}{own}"


def _by_channel(channels: tuple[Segments, ...], info: AudioInfo) -> str:
    """``left channel full, right channel filled from 4.0 kHz``; alike channels are named once."""
    names: dict[Segments, list[str]] = {}
    for place, segments in enumerate(channels):
        names.setdefault(segments, []).append(channel_name(info, place))
    said = []
    for segments, those in names.items():
        named = " and ".join(filter(None, (", ".join(those[:-1]), those[-1])))
        noun = "channel" if len(those) == 1 else "channels"
        full = min(hz for _, hz in segments) >= FULL_BAND_HZ
        said.append(f"{named} {noun} {'full' if full else f'filled from {_steps(segments)}'}")
    return ", ".join(said)


def channel_name(info: AudioInfo, channel: int) -> str:
    """The name of a channel's speaker, or its number, from 1, where none is named."""
    if info.channels == 2 and info.speakers in (None, 0x3):
        return ("left", "right")[channel]
    mask = info.speakers or 0
    bits = [bit for bit in range(len(SPEAKER_NAMES)) if mask >> bit & 1]
    return SPEAKER_NAMES[bits[channel]] if len(bits) == info.channels else f"{channel + 1}."


def _steps(segments: tuple[tuple[float, float], ...]) -> str:
    """``4.0 kHz, from 1:02 on 20.0 kHz``."""
    named = [_khz(segments[0][1])]
    named += [
        f"from {int(start) // 60}:{int(start) % 60:02d} on {_khz(hz)}"
        for start, hz in segments[1:NAMED_SEGMENTS]
    ]
    more = len(segments) - NAMED_SEGMENTS
    return ", ".join(named) + (f", and {more} more" if more > 0 else "")


def _khz(hz: float) -> str:
    return f"{hz / 1000:.1f} kHz"
