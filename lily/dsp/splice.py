"""Decide what of the output is the recording and what is generated: the crossover.

out = input + highpass(generated - input), linear phase: below 0.9 x cutoff the recording passes
untouched, above the cutoff everything is generated, between them the two share linearly. As the
filter sees only the difference, a generator that returns its input changes nothing at all.
Frequencies are in Hz, signals are (C, n) float32.
"""

import torch
from torch import Tensor

from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs, PiecewiseFir
from lily.dsp.filters import highpass_kernel
from lily.errors import InputError

CROSSOVER_START = 0.9  # x cutoff: the recording's last tenth may already fall towards its floor


class Splicer:
    """Join blocks of the recording (C, n) and of what was generated (C, n), in step.

    Below 0.9 x the cutoff the output differs from the recording by less than -90 dB of the
    difference; above the cutoff it is what was generated, to -90 dB. Where the cutoffs change, a
    piece whose band is full is the recording itself. Raises InputError for a cutoff that is not
    between 0 and half the sample rate.
    """

    def __init__(self, cutoffs: Cutoffs, sample_rate: int, channels: int) -> None:
        def kernel(cutoff_hz: float) -> Tensor:
            if len(cutoffs.hz) > 1 and cutoff_hz >= FULL_BAND_HZ:
                return torch.zeros(1, dtype=torch.float64)
            return highpass_kernel(CROSSOVER_START * cutoff_hz, cutoff_hz, sample_rate)

        self._highpass = PiecewiseFir(cutoffs, kernel)
        self._waiting = torch.zeros(channels, 0)  # recording whose difference is still filtered

    def push(self, recording: Tensor, generated: Tensor) -> Tensor:
        """Take blocks of equal shape (C, n) and return the output (C, m) final by now.

        Raises InputError if the shapes differ from each other or from the number of channels.
        """
        channels = self._waiting.shape[0]
        if recording.shape != generated.shape or recording.shape[0] != channels:
            raise InputError(
                f"The recording's block is {tuple(recording.shape)} and the generated one "
                f"{tuple(generated.shape)}; both must be ({channels}, n)."
            )
        self._waiting = torch.cat([self._waiting, recording], dim=-1)
        return self._add(self._highpass.push(generated - recording))

    def flush(self) -> Tensor:
        """Return the rest (C, m); the total length out is the total length in."""
        if self._waiting.shape[-1] == 0:
            return self._waiting
        return self._add(self._highpass.flush())

    def _add(self, difference: Tensor) -> Tensor:
        count = difference.shape[-1]
        ready, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        return ready + difference
