"""Linear-phase Kaiser FIR filters, applied to streams of blocks.

Frequencies are in Hz, signals are (C, n) float32. Kernels are odd, so that their delay is a whole
number of samples and can be removed exactly. Source: J. F. Kaiser, "Nonrecursive digital filter
design using the I0-sinh window function" (1974). The kernels are those of `scipy.signal.firwin`,
which the tests compare them with; importing it would take a tenth of a short run.
"""

import math

import torch
from torch import Tensor

from lily.errors import InputError

# One FFT covers this many kernel lengths: beyond 4 the time per sample hardly falls.
FFT_PER_KERNEL = 4
MIN_FFT = 4_096  # samples; longer ones leave the cache
# Samples of the windows that one call transforms: 0.7 s at 48 kHz. Every call plans its FFT anew,
# which costs more than one window's arithmetic.
GROUP = 32_768


def lowpass_kernel(
    pass_hz: float, stop_hz: float, sample_rate: int, attenuation_db: float = 90.0
) -> Tensor:
    """Design a linear-phase low-pass (taps,), float64, odd taps, that is flat up to `pass_hz`.

    Ripple below `pass_hz` and gain above `stop_hz` are both under -`attenuation_db`, which must
    exceed 50: below, Kaiser's beta has another formula. Raises InputError unless
    0 < pass_hz < stop_hz <= sample_rate / 2.
    """
    nyquist = sample_rate / 2
    if not 0 < pass_hz < stop_hz <= nyquist:
        raise InputError(
            f"A filter passing {pass_hz:g} Hz and stopping {stop_hz:g} Hz cannot be made at "
            f"{sample_rate} Hz; give 0 < pass < stop <= {nyquist:g} Hz."
        )
    # Kaiser's estimate of the window's length for a transition.
    width = math.pi * (stop_hz - pass_hz) / nyquist
    taps = math.ceil((attenuation_db - 7.95) / 2.285 / width + 1) | 1
    beta = kaiser_beta(attenuation_db)
    return windowed_sinc(taps, (pass_hz + stop_hz) / 2 / nyquist, beta)


def kaiser_beta(attenuation_db: float) -> float:
    """Kaiser's estimate of the window's shape for an attenuation above 50 dB."""
    return 0.1102 * (attenuation_db - 8.7)


def windowed_sinc(taps: int, centre: float, beta: float) -> Tensor:
    """A low-pass (taps,), float64, of gain 1 at 0 Hz under a Kaiser window.

    ``centre`` is the middle of the transition as a fraction of Nyquist.
    """
    places = torch.arange(taps, dtype=torch.float64) - taps // 2
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    kernel = centre * torch.sinc(centre * places) * window
    return kernel / kernel.sum()


def highpass_kernel(
    stop_hz: float, pass_hz: float, sample_rate: int, attenuation_db: float = 90.0
) -> Tensor:
    """Design the complement of `lowpass_kernel` (taps,): the two sum to a delayed impulse.

    Raises InputError unless 0 < stop_hz < pass_hz <= sample_rate / 2.
    """
    kernel = -lowpass_kernel(stop_hz, pass_hz, sample_rate, attenuation_db)
    kernel[kernel.numel() // 2] += 1.0
    return kernel


class StreamingFir:
    """Filter a stream of blocks (C, n) with one odd kernel (taps,), delay removed.

    The outputs of all pushes and the flush, joined, are the 'same' convolution of the whole signal,
    padded with zeros. Groups of FFT windows are cut at fixed positions of the stream, so the sizes
    of the pushed blocks do not change a single bit. Sums are in float64: the error of a long kernel
    stays below the last bit of float32. After `flush` the filter is reset.
    """

    def __init__(self, kernel: Tensor) -> None:
        if kernel.dim() != 1 or kernel.numel() % 2 == 0:
            raise InputError(f"A kernel of shape {tuple(kernel.shape)} is not (odd taps,).")
        self._kernel = kernel.double()
        self._half = kernel.numel() // 2
        size = max(MIN_FFT, 1 << (FFT_PER_KERNEL * kernel.numel() - 1).bit_length())
        self._fft_size = size
        self._step = size - 2 * self._half  # output samples of one FFT that are free of wrap-around
        self._hop = max(1, GROUP // size) * self._step  # output samples of a group
        self._span = self._hop + 2 * self._half  # its input samples
        self._spectrum = torch.fft.rfft(self._kernel, n=size)
        self._buffer: Tensor | None = None  # (C, n) float64, starts `half` before the next output
        self._owed = 0  # samples pushed whose output has not been returned yet

    def push(self, block: Tensor) -> Tensor:
        """Filter a block (C, n); return the output (C, m) that is final so far, m may be 0."""
        block = block.double()
        if self._buffer is None:
            self._buffer = block.new_zeros(block.shape[0], self._half)
        self._buffer = torch.cat([self._buffer, block], dim=-1)
        self._owed += block.shape[-1]
        out = [block.new_zeros(block.shape[0], 0)]
        while self._buffer.shape[-1] >= self._span:
            out.append(self._filter(self._buffer[:, : self._span]))
            self._buffer = self._buffer[:, self._hop :]
        joined = torch.cat(out, dim=-1)
        self._owed -= joined.shape[-1]
        return joined.float()

    def flush(self) -> Tensor:
        """Return the rest (C, m): the total output is as long as the total input.

        Raises InputError if nothing was pushed, as the number of channels is unknown.
        """
        if self._buffer is None:
            raise InputError("Nothing was pushed into the filter; push at least one block.")
        owed, out = self._owed, [self._buffer.new_zeros(self._buffer.shape[0], 0)]
        for start in range(0, owed, self._hop):
            rest = self._buffer[:, start : start + self._span]
            padded = torch.nn.functional.pad(rest, (0, self._span - rest.shape[-1]))
            out.append(self._filter(padded))
        self._buffer, self._owed = None, 0
        return torch.cat(out, dim=-1)[:, :owed].float()

    def _filter(self, samples: Tensor) -> Tensor:
        """Overlap-save: (C, span) -> (C, hop)."""
        windows = samples.unfold(-1, self._fft_size, self._step)
        spectra = torch.fft.rfft(windows).mul_(self._spectrum)
        filtered = torch.fft.irfft(spectra, n=self._fft_size)
        return filtered[..., 2 * self._half :].flatten(-2)


def filter_whole(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter a whole signal (C, T) -> (C, T), bit-identical to `StreamingFir`."""
    fir = StreamingFir(kernel)
    return torch.cat([fir.push(x), fir.flush()], dim=-1)


def band_limit_kernel(cutoff_hz: float, sample_rate: int) -> Tensor:
    """Return the low-pass (taps,) before the networks, in training as in inference.

    It keeps the networks from seeing what lies above the cutoff, where its gain is one half. With a
    cutoff whose passband would reach Nyquist it is the identity.
    """
    nyquist = sample_rate / 2
    if 0.95 * cutoff_hz >= nyquist:
        return torch.ones(1, dtype=torch.float64)
    return lowpass_kernel(0.95 * cutoff_hz, min(1.05 * cutoff_hz, nyquist), sample_rate)
