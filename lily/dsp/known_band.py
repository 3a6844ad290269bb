"""What the recording itself has is put back into generated log-mels, and the crossover is filled.

Log-mels are (T, M) in natural log magnitude, cutoffs (T,) in Hz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lily.dsp.audiosr import share_index
from lily.dsp.cutoffs import LOWEST_TRAINED_HZ, Cutoffs
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz, sounding
from lily.dsp.splice import CROSSOVER_START, recorded_share

MOST_RECORDED = 0.75  # of the wanted power: at least a quarter of it is generated
LEAST_SHARE = 0.5  # of the generated signal in the output; less is not compensated: +6 dB at most
# Hz above the cutoff that a tone below it reaches in the log-mel: half of the main lobe of its Hann
# window (47 Hz) and half of a mel's width (16 Hz).
LOBE_HZ = 63.0


class KnownBand:
    """Put back what the recording itself has: the mels below the crossover, and silence.

    In the crossover the recording fades and may fall already, and what is generated there is not
    coherent with it: powers add. So as much is generated as the recording lacks of the level that
    the model expects; otherwise outputs have a notch of 3 to 5 dB there. A tone just below the
    cutoff makes the model generate a loud band above it; that band is limited to the recording's
    power, and to less below the lowest cutoff of training, where a tone's main lobe is wider than
    the crossover. Silence is put back because pauses would come back with hiss.
    Source: AudioSR ``ddpm.py: mel_replace_ops``, which knows no crossover.
    """

    def __init__(self, mel: LogMel, cutoffs: Cutoffs) -> None:
        self._hz = bin_centres_hz(mel)
        self._edges = {
            hz: _Edge.at(hz, self._hz, cutoffs.keeps(hz), mel.config.sample_rate)
            for hz in cutoffs.distinct_hz
        }

    def restore(self, generated: Tensor, low: Tensor, cutoffs_hz: Tensor) -> Tensor:
        """Replace in ``generated`` (T, M) what ``low`` (T, M) has."""
        generated = generated.clamp(min=LOG_FLOOR)
        restored = torch.empty_like(generated)
        for cutoff_hz in cutoffs_hz.unique().tolist():
            here, edge = cutoffs_hz == cutoff_hz, self._edges[cutoff_hz]
            filled = missing(generated[here], low[here], edge.share)
            filled = edge.bounded(filled, low[here]).clamp(min=LOG_FLOOR)
            restored[here] = torch.where(edge.share < 1, filled, low[here])
        silent = ~sounding(low, self._hz)
        return restored.masked_fill_(silent[:, None], LOG_FLOOR)


@dataclass(frozen=True)
class _Edge:
    """What restoring at one cutoff needs."""

    share: Tensor  # (M,): the recording's amplitude in the output; 1 of a segment kept as it is
    beside: Tensor  # (M,) bool: bins beside the recording's band that a tone in it reaches
    first: int  # of these bins
    stop: int  # the bin after the last of them
    log_widths: Tensor  # (M,): of the bins, in Hz
    log_most: float  # of the recording's power that may be generated beside it

    @classmethod
    def at(cls, cutoff_hz: float, hz: Tensor, kept: bool, sample_rate: int) -> _Edge:
        """``hz`` (M,) are the bins' centres, rising; a ``kept`` segment stays as it is."""
        stop = int((hz < cutoff_hz + LOBE_HZ).sum())
        first = min(stop, int((hz <= CROSSOVER_START * cutoff_hz).sum()))
        places = torch.arange(len(hz), device=hz.device)
        return cls(
            share=torch.ones_like(hz) if kept else recorded_share(hz, cutoff_hz, sample_rate),
            beside=(places >= first) & (places < stop),
            first=first,
            stop=stop,
            log_widths=torch.diff(hz, append=hz[-1:]).clamp(min=1e-6).log(),
            log_most=math.log(min(1.0, cutoff_hz / LOWEST_TRAINED_HZ)),
        )

    def bounded(self, filled: Tensor, low: Tensor) -> Tensor:
        """Lower ``filled`` (T, M) beside the recording's band to its power at most.

        At lower cutoffs than 2 kHz it is lowered to a share of that power, cutoff / 2 kHz: the
        63 Hz are a growing share of the recorded band, whose level white noise keeps.
        """
        generated = self._power(filled, self.first)
        excess = generated - self._power(low, 0) - self.log_most
        return filled - excess.clamp(min=0)[:, None] / 2 * self.beside

    def _power(self, log_mel: Tensor, first: int) -> Tensor:
        """The logarithm of the power (T,) in the bins from ``first`` on."""
        bins = slice(first, self.stop)
        return (2 * log_mel[:, bins] + self.log_widths[bins]).logsumexp(1)


def missing(wanted: Tensor, recorded: Tensor, share: Tensor) -> Tensor:
    """The log-mel (T, M) to generate so that the output has the level that is ``wanted``.

    ``share`` (M,) is the amplitude of the recording in the output, the generated signal's is the
    rest; they are not coherent. Where the recording has more than three quarters of the power, a
    quarter is generated nevertheless.
    """
    taken = (2 * (share.clamp(min=1e-6).log() + recorded - wanted)).exp()
    return (
        wanted
        + (-taken.clamp(max=MOST_RECORDED)).log1p() / 2
        - (1 - share).clamp(min=LEAST_SHARE).log()
    )


class KnownShare:
    """The same by AudioSR's rule: each chunk has a cutoff of its own, from its magnitudes."""

    def restore(self, generated: Tensor, low: Tensor, _cutoffs_hz: Tensor) -> Tensor:
        """Replace the mels of ``generated`` (T, M) below the chunk's cutoff by ``low`` (T, M)."""
        bins = share_index(low.exp())
        return torch.cat([low[:, :bins], generated[:, bins:]], dim=1)
