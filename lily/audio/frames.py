"""Turn FFmpeg's frames into samples (C, n) float32, all in the format of the first one.

Channels come in the order of a WAVE speaker mask. A file that changes its format on the way, as
joined files may, is converted to what it began with; if that would lose a higher rate or more
channels for longer than a damaged frame lasts, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from lily.audio.info import DecodeWarning, clock
from lily.errors import InputError

# FFmpeg's sample formats, and full scale of its integers; unsigned bytes are centred at 128.
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
FULL_SCALE = {"u1": 1 << 7, "i2": 1 << 15, "i4": 1 << 31, "i8": 1 << 63}
# FFmpeg's names of channels, in the order of the bits of a WAVE speaker mask.
SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC",
    "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip
DAMAGE_SECONDS = 1.0  # of frames in a larger format that may come from damaged headers


def speaker_mask(layout: av.AudioLayout) -> int | None:
    """The WAVE mask of a layout; None where it names no speakers, or others."""
    names = [channel.name for channel in layout.channels]
    if not set(names) <= set(SPEAKERS) or len(set(names)) < len(names):
        return None
    return sum(1 << SPEAKERS.index(name) for name in names)


def speaker_order(layout: av.AudioLayout) -> list[int] | None:
    """The places of a layout's channels in the order of the mask; None if they are in order."""
    if speaker_mask(layout) is None:
        return None
    bits = [SPEAKERS.index(channel.name) for channel in layout.channels]
    return None if bits == sorted(bits) else sorted(range(len(bits)), key=bits.__getitem__)


def native_name(layout: av.AudioLayout) -> str:
    """FFmpeg's name of a layout with its channels in the order of the mask.

    PyAV ends the process where a frame is made in any other order.
    """
    mask = speaker_mask(layout)
    return layout.name if mask is None else f"{mask:#x}"


def samples_of(frame: av.AudioFrame) -> np.ndarray:
    """Turn a frame of any sample format into float32 (C, n) with full scale at 1.0."""
    kind, channels = DTYPES[frame.format.packed.name], frame.layout.nb_channels
    if frame.format.is_planar:
        planes = frame.planes
        data = np.stack([np.frombuffer(planes[c], kind, frame.samples) for c in range(channels)])
    else:
        packed = np.frombuffer(frame.planes[0], kind, frame.samples * channels)
        data = packed.reshape(-1, channels).T
    if kind in FULL_SCALE:
        middle = 128.0 if kind == "u1" else 0.0
        # float64: a 32-bit sample has more digits than float32 can subtract from
        data = (data.astype(np.float64) - middle) / FULL_SCALE[kind]
    return np.ascontiguousarray(data, dtype=np.float32)


class FrameReader:
    """Reads frames of one recording."""

    def __init__(self, name: str, first: av.AudioFrame, rate: int) -> None:
        self._name, self._layout = name, native_name(first.layout)
        self._base = self._now = _format(first, rate)
        self._converter: av.AudioResampler | None = None
        self._changed = self._larger_seconds = 0.0
        self.speakers = speaker_mask(first.layout)
        self._order = speaker_order(first.layout)  # of the frames' channels now

    def read(
        self, frame: av.AudioFrame, rate: int, kept: int, seconds: float
    ) -> Iterator[np.ndarray | DecodeWarning]:
        """Yield the samples of a frame, of which `kept` count, at a position in seconds."""
        form = _format(frame, rate)
        if form != self._now:
            yield from self.flush()
            self._now, self._order = form, speaker_order(frame.layout)
            if form != self._base:
                yield self._convert(form, seconds)
        piece = samples_of(frame)[:, :kept]
        piece = piece if self._order is None else piece[self._order]
        if self._converter is None:
            yield piece
            return
        self._refuse_larger(frame)
        whole = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(piece), "fltp", native_name(frame.layout)
        )
        whole.sample_rate = rate
        for converted in self._converter.resample(whole):
            yield samples_of(converted)

    def flush(self) -> Iterator[np.ndarray]:
        """Yield what a conversion still holds, and end it."""
        if self._converter is not None:
            for converted in self._converter.resample(None):
                yield samples_of(converted)
        self._converter, self._larger_seconds = None, 0.0

    def _convert(self, form: tuple[int, int, str], seconds: float) -> DecodeWarning:
        self._converter = av.AudioResampler("fltp", self._layout, self._base[0])
        self._changed = seconds
        return DecodeWarning(
            f"The file changes to {_words(form)} at {clock(seconds)}; from there on it was "
            f"converted to {_words(self._base)}, as which it begins.",
            seconds,
        )

    def _refuse_larger(self, frame: av.AudioFrame) -> None:
        rate, channels, _layout = self._now
        if rate <= self._base[0] and channels <= self._base[1]:
            return
        self._larger_seconds += frame.samples / rate
        if self._larger_seconds > DAMAGE_SECONDS:
            raise InputError(
                f"{self._name} changes from {_words(self._base)} to {_words(self._now)} at "
                f"{clock(self._changed)}; cut it there, or convert it to one format first."
            )


def _format(frame: av.AudioFrame, rate: int) -> tuple[int, int, str]:
    layout = frame.layout
    return rate, layout.nb_channels, layout.name


def _words(form: tuple[int, int, str]) -> str:
    rate, channels, _layout = form
    named = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    return f"{named} at {rate} Hz"
