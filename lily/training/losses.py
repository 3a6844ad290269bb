"""What the small vocoder is trained on: an energy distance between spectra, no adversary.

For two draws y1, y2 of the vocoder and the recording x, the loss is d(x, y1) + d(x, y2) - d(y1, y2)
(Gritsenko et al. 2020, arXiv:2008.01160): a proper score, least when the draws are distributed as
the recording is, so that noise stays noise and is not smoothed into a whistle. d is the
root-mean-square difference of log spectra over frequency, averaged over frames and resolutions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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


# ---- above a cutoff: what the carrier vocoder is trained on --------------------------------------

WIDE_WEIGHT, STROKE_WEIGHT = 0.75, 0.25
STROKE_WINDOW, STROKE_HOP, STROKE_BANDS = 256, 64, 4  # samples; bands of equal ratios to 20 kHz
STROKE_PATCH = 8  # frames (11 ms) scored together
STROKE_MEAN = 65  # frames (87 ms) whose mean is taken out: level is the wide term's
TOP_HZ, SAMPLE_RATE = 20_000.0, 48_000


def energy_distance_above(
    target: Tensor, first: Tensor, second: Tensor, cutoff_hz: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The energy distance of two draws (B, T) to the recording (B, T) above ``cutoff_hz`` (B,).

    Two terms: log spectra frame by frame, as below a cutoff is not judged; and the levels of four
    bands in patches of 11 ms, their mean over 87 ms taken out, which sharpens attacks.
    """
    x, y1, y2 = (views_above(signal, cutoff_hz) for signal in (target, first, second))
    terms = {
        name: _apart(x[name], y1[name]) + _apart(x[name], y2[name]) - _apart(y1[name], y2[name])
        for name in x
    }
    loss = WIDE_WEIGHT * terms["wide"] + STROKE_WEIGHT * terms["strokes"]
    return loss, {name: term.detach() for name, term in terms.items()}


def views_above(samples: Tensor, cutoff_hz: Tensor) -> dict[str, list[Tensor]]:
    """What is compared of samples (B, T): vectors (B, N, L) whose norm is an RMS."""
    wide = []
    for spectrum in log_spectra(samples):
        hz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=samples.device)
        above = (hz >= cutoff_hz[:, None]).float()
        scale = (above / above.sum(1, keepdim=True).clamp(min=1)).sqrt()
        wide.append(spectrum * scale[:, :, None])
    return {"wide": wide, "strokes": [_strokes(samples, cutoff_hz)]}


def _strokes(samples: Tensor, cutoff_hz: Tensor) -> Tensor:
    window = torch.hann_window(STROKE_WINDOW, device=samples.device)
    spectrum = torch.stft(
        samples, STROKE_WINDOW, STROKE_HOP, window=window, center=False, return_complex=True
    )
    power = (spectrum.real.square() + spectrum.imag.square()) / window.square().sum()
    hz = torch.linspace(0, SAMPLE_RATE / 2, power.shape[1], device=samples.device)
    steps = torch.arange(STROKE_BANDS + 1, device=samples.device) / STROKE_BANDS
    edges = cutoff_hz[:, None] * (TOP_HZ / cutoff_hz[:, None]) ** steps  # (B, 5)
    inside = (hz >= edges[:, :-1, None]) & (hz < edges[:, 1:, None])  # (B, 4, F)
    level = (inside.float() @ power + POWER_FLOOR).log10()
    half = STROKE_MEAN // 2
    mean = F.avg_pool1d(level, STROKE_MEAN, 1, half, count_include_pad=False)
    moved = level - mean
    patches = moved[..., : moved.shape[-1] // STROKE_PATCH * STROKE_PATCH]
    patches = patches.unflatten(-1, (-1, STROKE_PATCH)).transpose(2, 3).flatten(1, 2)
    return patches / math.sqrt(STROKE_BANDS * STROKE_PATCH)


def _apart(a: list[Tensor], b: list[Tensor]) -> Tensor:
    terms = [((x - y).square().sum(1) + 1e-8).sqrt().mean() for x, y in zip(a, b, strict=True)]
    return torch.stack(terms).mean()
