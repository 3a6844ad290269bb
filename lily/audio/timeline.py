"""Place decoded frames by their time stamps: what is missing becomes silence of the same length.

Time stamps of recorders and browsers jitter: a frame that seems late may be followed by early ones.
A gap therefore counts only if the frames of the next half second are late too, compared with the
latest one of the second before. Times are in seconds; pieces are (C, n) float32.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from lily.audio.info import DecodeWarning, clock

LOOK_BACK, LOOK_AHEAD = 1.0, 0.5  # seconds of frames that a late one is compared with
MISSING = 0.75  # of a frame's length: one lost frame leaves a gap of 1
SHORTEST_GAP = 0.010  # seconds: above the rounding of time stamps to milliseconds
ALWAYS_A_GAP = 0.100  # seconds, however long frames are
LONGEST_GAP = 600.0  # seconds: more is a clock that was set, not a pause
LATE_START = 0.1  # seconds before the first frame: more than the delay of any encoder

Output = Iterator[np.ndarray | DecodeWarning]


class Timeline:
    """Joins pieces, each with the time of its first sample, and fills gaps with silence."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._rate, self._channels = sample_rate, channels
        self.frames = 0  # emitted so far, silence included
        self._held: list[tuple[float, np.ndarray]] = []  # pieces that seem late, with how late
        self._held_frames = 0
        self.begin(None)

    def begin(self, start: float | None) -> None:
        """Start a part with a clock of its own: `start` is its time there, None its first piece's.

        Call `flush` before if there was a part already.
        """
        self._zero = None if start is None else start - self.seconds  # time of position 0
        self._first = True
        self._damaged = False  # what comes before the next piece could not be decoded
        self._latest: deque[tuple[float, float]] = deque()  # (position, lateness), falling lateness

    @property
    def seconds(self) -> float:
        """The duration so far."""
        return self.frames / self._rate

    def damaged(self) -> None:
        """Note that what comes before the next piece could not be decoded."""
        self._damaged = True

    def push(self, time: float | None, piece: np.ndarray) -> Output:
        """Add a piece; without a `time` it follows the one before."""
        if self._first:
            self._first = False
            yield from self._late_start(time)
        position = (self.frames + self._held_frames) / self._rate
        if time is not None and self._zero is None:
            self._zero = time - position
        usual = self._usual(position)
        late = usual if time is None or self._zero is None else time - self._zero - position
        if self._held or late - usual > self._least(piece.shape[1] / self._rate):
            self._held.append((late, piece))
            self._held_frames += piece.shape[1]
            if self._held_frames >= LOOK_AHEAD * self._rate:
                yield from self.flush()
        else:
            yield from self._emit(late, piece)

    def flush(self) -> Output:
        """Decide about the pieces that seem late: after a gap all of them are, by jitter some."""
        if not self._held:
            return
        held, self._held, self._held_frames = self._held, [], 0
        gap = min(late for late, _ in held) - self._usual(self.seconds)
        if gap > SHORTEST_GAP:
            yield from self._silence(gap)
        else:
            gap = 0.0
        for late, piece in held:
            yield from self._emit(late - gap, piece)

    def lose(self, seconds: float) -> Output:
        """Add silence for a damaged span of known length."""
        yield from self.flush()
        self._damaged = True
        yield from self._silence(seconds)

    def _late_start(self, time: float | None) -> Output:
        late = 0.0 if time is None or self._zero is None else time - self._zero - self.seconds
        if LATE_START < late <= LONGEST_GAP:
            yield from self._silence(late)
        else:
            self._zero = None  # the first piece is the start

    def _usual(self, position: float) -> float:
        """How late the latest piece of the last second was."""
        while len(self._latest) > 1 and self._latest[0][0] < position - LOOK_BACK:
            self._latest.popleft()
        return self._latest[0][1] if self._latest else 0.0

    @staticmethod
    def _least(piece_seconds: float) -> float:
        return min(max(MISSING * piece_seconds, SHORTEST_GAP), ALWAYS_A_GAP)

    def _emit(self, late: float, piece: np.ndarray) -> Output:
        if self._damaged:
            self._damaged = False
            at = clock(self.seconds)
            yield DecodeWarning(f"The file is damaged at {at}; a part is missing.", self.seconds)
        while self._latest and self._latest[-1][1] <= late:
            self._latest.pop()
        self._latest.append((self.seconds, late))
        self.frames += piece.shape[1]
        yield piece

    def _silence(self, seconds: float) -> Output:
        """Emit silence, or only a warning where it would be too long, and say why."""
        at, length = clock(self.seconds), f"{seconds:.2f} s"
        damaged, self._damaged = self._damaged, False
        if seconds > LONGEST_GAP:
            self._zero = None  # taken anew from the next piece
            text = f"Time stamps jump by {length} at {at}; the parts were joined without a pause."
            yield DecodeWarning(text, self.seconds)
            return
        if damaged:
            text = f"{length} at {at} could not be decoded; they are silent."
        elif not self.frames:
            text = f"The sound starts {length} after the beginning of the file; it is silent there."
        else:
            text = f"The file holds no sound for {length} at {at}; it is silent there."
        yield DecodeWarning(text, self.seconds, seconds)
        left = round(seconds * self._rate)
        self.frames += left
        for start in range(0, left, self._rate):
            yield np.zeros((self._channels, min(self._rate, left - start)), np.float32)
