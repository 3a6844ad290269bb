"""The crossover between the recording below the cutoff and the generated band above it.

out = input + highpass(generated - input), linear phase: below 0.9 x cutoff the recording passes
untouched, above the cutoff everything is generated, in between the two are cross-faded. As the
filter sees only the difference, a generator that returns its input changes nothing.
Frequencies are in Hz, signals are (C, n) float32.
"""

import math

import torch
from torch import Tensor

from lily.dsp.cutoffs import Cutoffs, PiecewiseFir
from lily.dsp.filters import highpass_kernel
from lily.errors import InputError

CROSSOVER_START = 0.9  # x cutoff: the recording's last tenth may already fall towards its floor


def recorded_share(hz: Tensor, cutoff_hz: float, sample_rate: int) -> Tensor:
    """Return the recording's amplitude (F,) in the output at ``hz`` (F,).

    Exactly 1 below the crossover, 0 from the cutoff on.
    """
    hz = hz.double()
    kernel = highpass_kernel(CROSSOVER_START * cutoff_hz, cutoff_hz, sample_rate)
    places = torch.arange(kernel.numel(), dtype=torch.float64) - kernel.numel() // 2
    angles = 2 * math.pi / sample_rate * hz[:, None] * places
    share = (1 - (angles.cos() * kernel).sum(1)).clamp(0, 1)
    share = share.masked_fill(hz <= CROSSOVER_START * cutoff_hz, 1.0)
    return share.masked_fill(hz >= cutoff_hz, 0.0).float()


class Splicer:
    """Splice blocks of the recording (C, n) and of the generated signal (C, n), in step.

    Below 0.9 x the cutoff the output differs from the recording by less than -90 dB of the
    difference; above the cutoff it equals the generated signal to -90 dB. Where cutoffs change, a
    segment whose band is full is the recording itself. Raises InputError for a cutoff that is not
    between 0 and half the sample rate.
    """

    def __init__(self, cutoffs: Cutoffs, sample_rate: int, channels: int) -> None:
        def kernel(cutoff_hz: float) -> Tensor:
            if cutoffs.keeps(cutoff_hz):
                return torch.zeros(1, dtype=torch.float64)
            return highpass_kernel(CROSSOVER_START * cutoff_hz, cutoff_hz, sample_rate)

        self._highpass = PiecewiseFir(cutoffs, kernel)
        self._waiting = torch.zeros(channels, 0)  # recording not yet spliced

    def push(self, recording: Tensor, generated: Tensor) -> Tensor:
        """Splice blocks of equal shape (C, n); return the output (C, m) that is final so far.

        Raises InputError if the shapes differ from each other or from the number of channels.
        """
        channels = self._waiting.shape[0]
        if recording.shape != generated.shape or recording.shape[0] != channels:
            raise InputError(
                f"The recording's block is {tuple(recording.shape)} and the generated one is "
                f"{tuple(generated.shape)}; both must be ({channels}, n)."
            )
        self._waiting = torch.cat([self._waiting, recording], dim=-1)
        return self._add(self._highpass.push(generated - recording))

    def flush(self) -> Tensor:
        """Return the rest (C, m): the total output is as long as the total input."""
        if self._waiting.shape[-1] == 0:
            return self._waiting
        return self._add(self._highpass.flush())

    def _add(self, difference: Tensor) -> Tensor:
        count = difference.shape[-1]
        ready, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        return ready + difference
