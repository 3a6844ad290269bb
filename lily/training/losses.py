"""What the small vocoder is trained on: an energy distance between spectra, no adversary.

For two draws y1, y2 of the vocoder and the recording x, the loss is d(x, y1) + d(x, y2) - d(y1, y2)
(Gritsenko et al. 2020, arXiv:2008.01160): a proper score, least when the draws are distributed as
the recording is, so that noise stays noise and is not smoothed into a whistle. d is the
root-mean-square difference of log spectra over frequency, averaged over frames and resolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor

RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # (n_fft, hop) in samples at 48 kHz
POWER_FLOOR = 1e-7  # of windowed power: about -90 dB re full scale, below any audible hiss


def log_spectra(samples: Tensor) -> list[Tensor]:
    """Samples (B, T) to log power (B, F, L), one per resolution."""
    spectra = []
    for n_fft, hop in RESOLUTIONS:
        window = torch.hann_window(n_fft, device=samples.device)
        spectrum = torch.stft(
            _mirrored(samples, n_fft // 2),
            n_fft,
            hop,
            window=window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        spectra.append((power / window.square().sum() + POWER_FLOOR).log10())
    return spectra


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Mean over frames and resolutions of the RMS log-spectral difference, a scalar."""
    terms = [((x - y).square().mean(1) + 1e-8).sqrt().mean() for x, y in zip(a, b, strict=True)]
    return torch.stack(terms).mean()


def energy_distance(target: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of two draws (B, T) against the recording (B, T), and the plain distance to log."""
    x, y1, y2 = log_spectra(target), log_spectra(first), log_spectra(second)
    plain = (distance(x, y1) + distance(x, y2)) / 2
    return 2 * plain - distance(y1, y2), plain.detach()


def _mirrored(samples: Tensor, edge: int) -> Tensor:
    """Reflected at both ends, as ``stft`` would do it.

    On a GPU the gradient of its own reflection does not repeat itself, and ``--deterministic``
    refuses it.
    """
    return torch.cat(
        [samples[:, 1 : edge + 1].flip(1), samples, samples[:, -edge - 1 : -1].flip(1)], 1
    )
