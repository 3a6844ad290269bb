"""Decide how rates change: a Kaiser-windowed sinc, streamed, any integer rate to any other.

Sample 0 of input and output are the same instant. The filter is flat to 0.95 of the lower Nyquist
frequency and at -96 dB from that Nyquist on, so neither images nor aliases remain; to -90 dB the
result is the ideal band-limited interpolation. A table of all phases, as torchaudio builds it,
would take gigabytes for a rate such as 44101 Hz, so there are two ways to the same sum: ratios of
small numbers (8, 11.025, 16, 22.05, 32, 44.1, 96 kHz ... to 48 kHz) multiply frames by one small
exact matrix; all others look up each output's kernel in a table of 1,024 phases, interpolated
linearly (its error, (1/1024)^2 * pi^2/24, is -128 dB). Inputs three times as fast or more are
decimated by a whole number first, to 1.5 times the output's rate or more. Source: J. O. Smith,
"Digital Audio Resampling" (2002); Kaiser (1974). Rates are in Hz.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from lily.errors import InputError

ATTENUATION_DB = 96.0
KAISER_BETA = 0.1102 * (ATTENUATION_DB - 8.7)
SHARP_CROSSINGS = 128  # zero crossings on each side: a transition of 0.048 x Nyquist at -96 dB
KEPT_RATE = 1.5  # a first decimation leaves at least this many times the output's rate
TABLE_PHASES = 1024
MATRIX_LIMIT = 2_000_000  # elements, 16 MB: the largest exact matrix; 1000/999 still fits
MATRIX_OUTPUTS = 1024  # outputs a row of frames gives, where the ratio is simpler than that
GROUP_OUTPUTS = 4096  # outputs computed at once, so that blocks pushed never change a bit
TABLES = 4  # kept of each kind, 16 MB at most: one takes 0.1 s, a short clip needs it four times
LOOKUP_OUTPUTS = 1024  # the same where each has its own kernel: 4 MB of them stay in the cache


def resampled_length(length: int, rate_in: int, rate_out: int) -> int:
    """Count the samples that `length` samples become: ceil(length * rate_out / rate_in)."""
    return -(-length * rate_out // rate_in)


def resample(x: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Change the rate of a whole signal (C, T) -> (C, ceil(T * rate_out / rate_in)).

    Raises InputError if a rate is below 1 Hz.
    """
    resampler = Resampler(rate_in, rate_out)
    return torch.cat([resampler.push(x), resampler.flush()], dim=-1)


class Resampler:
    """Change the rate of a stream of blocks (C, n) float32.

    The blocks returned, joined, are bit for bit those of one call with the whole signal. After
    `flush` the resampler is as new. Raises InputError if a rate is below 1 Hz.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        if rate_in < 1 or rate_out < 1:
            raise InputError(f"Cannot resample {rate_in} Hz to {rate_out} Hz; rates start at 1 Hz.")
        self._rates = (rate_in, rate_out)
        self._stages = _stages(Fraction(rate_in, rate_out))
        self._empty: Tensor | None = None
        self._taken = self._given = 0

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, n) and return the output (C, m) that is final by now; m may be 0."""
        self._empty = block[:, :0]
        self._taken += block.shape[-1]
        for stage in self._stages:
            block = stage.push(block)
        self._given += block.shape[-1]
        return block.float()

    def flush(self) -> Tensor:
        """Return the rest (C, m), so that the total is `resampled_length` of what was pushed.

        Raises InputError if nothing was pushed, as the number of channels is then unknown.
        """
        if self._empty is None:
            raise InputError("Nothing was pushed into the resampler; push at least one block.")
        block = self._empty
        for stage in self._stages:
            block = torch.cat([stage.push(block), stage.flush()], dim=-1)
        owed = resampled_length(self._taken, *self._rates) - self._given
        self._empty, self._taken, self._given = None, 0, 0
        return block[:, :owed].float()


def _stages(step: Fraction) -> list["_Stage"]:
    """Plan the stages for `step` input samples per output: none, one, or a decimation before it."""
    if step == 1:
        return []
    factor = int(step / Fraction(KEPT_RATE))
    if factor < 2:
        return [_Stage(_Sinc.sharp(step))]
    return [_Stage(_Sinc.decimation(factor)), _Stage(_Sinc.sharp(step / factor))]


def _transition(crossings: int) -> float:
    """Tell the width of Kaiser's transition, as a fraction of the Nyquist frequency."""
    return (ATTENUATION_DB - 7.95) / (2.285 * 2 * crossings * math.pi)


@dataclass(frozen=True)
class _Sinc:
    """A windowed sinc for outputs `step` input samples apart, `crossings` zeros on each side."""

    step: Fraction
    crossings: int
    centre: float  # of the transition, x the lower Nyquist frequency

    @staticmethod
    def sharp(step: Fraction) -> "_Sinc":
        """End the transition at the lower Nyquist frequency."""
        return _Sinc(step, SHARP_CROSSINGS, 1.0 - _transition(SHARP_CROSSINGS) / 2)

    @staticmethod
    def decimation(factor: int) -> "_Sinc":
        """Keep only the band of the next stage's output clean: what folds lies above it."""
        free = 2 * (1 - 1 / KEPT_RATE)  # from that band's edge to where it would be folded upon
        return _Sinc(Fraction(factor), math.ceil(_transition(1) / free), 1.0)

    @property
    def half(self) -> int:
        """Count the input samples on each side that an output needs."""
        return math.ceil(self.crossings * max(1, self.step))

    def __call__(self, times: Tensor) -> Tensor:
        """Evaluate at `times` (in input samples), (P, K) -> (P, K), each row summing to 1."""
        scale = float(max(1, self.step))
        inside = times / (self.crossings * scale)
        window = torch.special.i0(KAISER_BETA * (1.0 - inside.square()).clamp(min=0.0).sqrt())
        rows = torch.sinc(times * (self.centre / scale)) * window * (inside.abs() <= 1.0)
        return rows / rows.sum(dim=-1, keepdim=True)  # a constant stays that constant


@lru_cache(maxsize=TABLES)
def _frame_matrix(sinc: _Sinc, hop: int, outputs: int) -> Tensor:
    """The exact matrix (hop + taps, outputs) from a frame and its margins to its outputs."""
    first = torch.arange(outputs, dtype=torch.float64)[:, None] * float(sinc.step)
    column = torch.arange(hop + 2 * sinc.half, dtype=torch.float64) - (sinc.half - 1)
    return sinc(first - column).T.contiguous()


@lru_cache(maxsize=TABLES)
def _phase_table(sinc: _Sinc) -> Tensor:
    """The kernels (TABLE_PHASES + 1, taps) that are interpolated between."""
    phase = torch.arange(TABLE_PHASES + 1, dtype=torch.float64)[:, None] / TABLE_PHASES
    column = torch.arange(2 * sinc.half, dtype=torch.float64) - (sinc.half - 1)
    return sinc(phase - column)


class _Stage:
    """Compute outputs at `step` input samples apart, in fixed groups cut at absolute places."""

    def __init__(self, sinc: _Sinc) -> None:
        self._step, self._half = sinc.step, sinc.half
        taps, (hop, outputs) = 2 * sinc.half, sinc.step.as_integer_ratio()
        self._exact = outputs * (hop + taps) <= MATRIX_LIMIT
        if self._exact:
            # Simple ratios are repeated until a frame is about as long as the kernel.
            repeat = max(1, min(taps // hop, MATRIX_OUTPUTS // outputs))
            hop, outputs = hop * repeat, outputs * repeat
            self._table = _frame_matrix(sinc, hop, outputs)
            self._frames_per_group = max(1, GROUP_OUTPUTS // outputs)
            self._hop, self._group = hop, outputs * self._frames_per_group
        else:
            self._table = _phase_table(sinc)
            self._group = LOOKUP_OUTPUTS
        self._reset()

    def _reset(self) -> None:
        self._buffer: Tensor | None = None  # (C, n) float64
        self._origin = -(self._half - 1)  # the stream's index of the buffer's first sample
        self._next = 0  # the stream's index of the next output
        self._taken = 0

    def push(self, block: Tensor) -> Tensor:
        block = block.double()
        if self._buffer is None:
            self._buffer = block.new_zeros(block.shape[0], self._half - 1)
        self._buffer = torch.cat([self._buffer, block], dim=-1)
        self._taken += block.shape[-1]
        return self._drain(self._origin + self._buffer.shape[-1])

    def flush(self) -> Tensor:
        missing = math.ceil(self._taken / self._step) - self._next
        groups = -(-missing // self._group)
        end = self._reach(self._next + groups * self._group)
        padding = max(0, end - self._origin - self._buffer.shape[-1])
        self._buffer = torch.nn.functional.pad(self._buffer, (0, padding))
        out = self._drain(end)[:, : max(0, missing)]
        self._reset()
        return out

    def _reach(self, output: int) -> int:
        """Tell the end of the input that the group before `output` needs."""
        return int(output * self._step) + self._half + 1

    def _drain(self, end: int) -> Tensor:
        """Compute every group whose input lies before the stream's index `end`."""
        out = [self._buffer[:, :0]]
        while self._reach(self._next + self._group) <= end:
            out.append(self._frames() if self._exact else self._lookup())
            self._next += self._group
            drop = int(self._next * self._step) - (self._half - 1) - self._origin
            self._buffer = self._buffer[:, drop:]
            self._origin += drop
        return torch.cat(out, dim=-1)

    def _frames(self) -> Tensor:
        """Multiply the frames of one group by the exact matrix: (C, n) -> (C, group)."""
        size = self._table.shape[0]
        stop = (self._frames_per_group - 1) * self._hop + size
        windows = self._buffer[:, :stop].unfold(-1, size, self._hop)  # (C, frames, size)
        return (windows @ self._table).flatten(1)

    def _lookup(self) -> Tensor:
        """Weigh each output's neighbourhood by its own kernel: (C, n) -> (C, group)."""
        hop, outputs = self._step.as_integer_ratio()
        # Integers: float64 would lose the phase of late samples of long recordings.
        scaled = torch.arange(self._next, self._next + self._group) * hop
        whole = scaled // outputs
        phase = (scaled % outputs).double() / outputs * TABLE_PHASES
        row = phase.long()
        kernels = torch.lerp(self._table[row], self._table[row + 1], (phase - row)[:, None])
        windows = self._buffer.unfold(-1, 2 * self._half, 1)
        windows = windows[:, whole - (self._half - 1) - self._origin]  # (C, group, taps)
        return (windows * kernels).sum(dim=-1)
