"""The log-mel front end, shared by data, loss, encoder and inference.

Natural log of the magnitude mel, floor ln 1e-5, frames of 2048 samples every 480 at 48 kHz, the
first centred on sample 240; the recording's ends are mirrored by 784 samples so that L = T / hop.
Source: AudioSR, ``utils.py: mel_spectrogram_train`` (librosa's Slaney mels, area-normalised).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator

import torch
import torchaudio.functional as AF
from torch import Tensor
from torch.nn import functional as F

from lily.config.presets import MelConfig

FLOOR = 1e-5  # AudioSR clamps the mel here before the log
LOG_FLOOR = -11.512925464970229  # ln FLOOR: the log-mel of silence
STEADY_HZ = 300.0  # 13 bins of the STFT, where the side lobes of a Hann window are 75 dB down


class LogMel:
    """Compute log-mel frames; the filter bank and window are made once per device."""

    def __init__(self, config: MelConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.edge = (config.n_fft - config.hop) // 2  # samples added on each side
        with warnings.catch_warnings():
            # AudioSR's lowest mels are narrower than a bin, so some are empty; that is expected.
            warnings.filterwarnings("ignore", "At least one mel filterbank")
            self.basis = AF.melscale_fbanks(
                config.n_fft // 2 + 1,
                config.fmin,
                config.fmax,
                config.n_mels,
                config.sample_rate,
                norm="slaney",
                mel_scale="slaney",
            ).to(device)  # (F, M)
        self.window = torch.hann_window(config.n_fft, device=device)

    def frames(self, samples: Tensor) -> Tensor:
        """Convert samples (..., L * hop + 2 * edge), edges included, to log-mel (..., L, M)."""
        mel = self.magnitudes(samples) @ self.basis
        return mel.clamp(min=FLOOR).log()

    def magnitudes(self, samples: Tensor) -> Tensor:
        """Convert samples (..., L * hop + 2 * edge) to spectral magnitudes (..., L, F)."""
        lead = samples.shape[:-1]
        spectrum = torch.stft(
            samples.reshape(-1, samples.shape[-1]),
            self.config.n_fft,
            self.config.hop,
            window=self.window,
            center=False,
            return_complex=True,
        ).abs()  # (B, F, L)
        return spectrum.transpose(-1, -2).reshape(*lead, -1, spectrum.shape[-2])

    def __call__(self, samples: Tensor) -> Tensor:
        """Convert a whole recording (..., T) to log-mel (..., ceil(T / hop), M).

        Recordings shorter than the mirrored edge are padded with silence instead.
        """
        length = samples.shape[-1]
        samples = F.pad(samples, (0, -length % self.config.hop))
        if samples.shape[-1] > self.edge:
            lead = samples.shape[:-1]
            flat = samples.reshape(-1, 1, samples.shape[-1])
            padded = F.pad(flat, (self.edge, self.edge), mode="reflect")
            return self.frames(padded.reshape(*lead, -1))
        return self.frames(F.pad(samples, (self.edge, self.edge)))

    def first_bin_above(self, frequency_hz: float) -> int:
        """Return the first mel bin whose filter lies wholly above ``frequency_hz``."""
        width = self.config.sample_rate / self.config.n_fft
        below = self.basis[: int(frequency_hz / width) + 1].sum(dim=0) > 0
        empty_low = self.basis.sum(dim=0) == 0
        touched = (below | empty_low).nonzero()
        return int(touched.max()) + 1 if len(touched) else 0


class MelStream:
    """Compute the same log-mel for a stream of blocks; memory is one window and a block."""

    def __init__(self, mel: LogMel) -> None:
        self.mel = mel
        self._buffer: Tensor | None = None
        self._started = False

    def push(self, block: Tensor) -> Tensor:
        """Add samples (C, n); return the log-mel frames (C, l, M) that are complete."""
        self._buffer = block if self._buffer is None else torch.cat([self._buffer, block], dim=-1)
        edge = self.mel.edge
        if not self._started:
            if self._buffer.shape[-1] <= edge + self.mel.config.hop:
                return self._none()
            mirrored = self._buffer[:, 1 : edge + 1].flip(-1)
            self._buffer = torch.cat([mirrored, self._buffer], dim=-1)
            self._started = True
        # One window more than needed is kept: flush() mirrors the end.
        ready = (self._buffer.shape[-1] - 2 * edge - self.mel.config.n_fft) // self.mel.config.hop
        return self._take(ready) if ready > 0 else self._none()

    def flush(self) -> Tensor:
        """Return the last frames (C, l, M); a fraction of a hop counts as a whole frame."""
        if self._buffer is None:
            raise ValueError("flush() before the first push()")
        if not self._started:
            return self.mel(self._buffer)
        edge, hop = self.mel.edge, self.mel.config.hop
        held = F.pad(self._buffer, (0, -(self._buffer.shape[-1] - edge) % hop))
        mirrored = held[:, -edge - 1 : -1].flip(-1)
        self._buffer = torch.cat([held, mirrored], dim=-1)
        return self._take((self._buffer.shape[-1] - 2 * edge) // hop)

    def over(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Push every block and flush; yield the frames (C, l, M) as they become complete."""
        for block in blocks:
            yield self.push(block)
        yield self.flush()

    def _take(self, count: int) -> Tensor:
        hop, edge = self.mel.config.hop, self.mel.edge
        assert self._buffer is not None
        frames = self.mel.frames(self._buffer[:, : count * hop + 2 * edge])
        self._buffer = self._buffer[:, count * hop :]
        return frames

    def _none(self) -> Tensor:
        assert self._buffer is not None
        return self._buffer.new_zeros(self._buffer.shape[0], 0, self.mel.config.n_mels)


def sounding(log_mel: Tensor, hz: Tensor) -> Tensor:
    """Which frames (T,) of a log-mel (T, M) are not silent; ``hz`` (M,) are the bins' centres.

    Bins below 300 Hz do not count: a recording's mean is taken out before its log-mel is made, so
    its digital silence is a constant of that size, which a Hann window spreads over them.
    """
    first = int((hz < STEADY_HZ).sum())
    return log_mel[:, first:].amax(1) > LOG_FLOOR


def bin_centres_hz(mel: LogMel) -> Tensor:
    """Centre frequencies (M,) of the mel bins in Hz: Slaney's scale, as the filter bank's."""
    config = mel.config
    low, high = (_slaney(hz) for hz in (config.fmin, config.fmax))
    places = torch.linspace(low, high, config.n_mels + 2)[1:-1]
    return torch.where(places < 15, places * 200 / 3, 1000 * 6.4 ** ((places - 15) / 27))


def _slaney(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)
