"""The small preset's vocoder: filter noise and add what is predictable, in one inverse STFT.

ConvNeXt blocks over the log-mel (Vocos, Siuzdak 2023, arXiv:2306.00814) predict, for every bin of a
shorter STFT, how loud its share of a given white noise is and which complex value to add. Noise of
the right envelope is where it starts before any training: most of what lies above a cutoff *is*
noise, and tones are added where they can be known. The noise is an input, so the caller decides
that it is a function of seed and place.
"""

from __future__ import annotations

import math
import warnings

import torch
import torchaudio.functional as AF
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import IstftVocoderConfig, MelConfig
from lily.model.layers import in_float32, lower, start_normal

# The log-mel's floor stands for silence: 1.5 times the level it is heard at becomes none.
SILENCE = math.log(1e-5)
GATE = 1.5
RAYLEIGH_MEAN = math.sqrt(math.pi) / 2  # mean magnitude of a complex normal of unit power


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time, then a two-layer perceptron per frame, added back."""

    def __init__(self, width: int, inner: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) to the same shape."""
        h = self.norm(self.depthwise(x).transpose(1, 2))
        h = self.down(F.gelu(self.up(h))) * self.scale
        return x + h.transpose(1, 2)


class IstftVocoder(nn.Module):
    """Log-mel and white noise in, samples out; linear in the noise."""

    uses_noise = True
    uses_recording = False
    margin = 24  # it sees 23

    def __init__(self, config: IstftVocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.hop = config.hop // config.frames_per_mel  # samples between synthesis frames
        self.edge = (config.n_fft - self.hop) // 2
        self.bins = config.n_fft // 2 + 1
        self.embed = nn.Conv1d(config.n_mels, config.dim, 7, padding=3)
        self.norm_in = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.dim, config.intermediate, 1 / config.layers)
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.frames_per_mel * self.bins * 3)
        start_normal(self.head.weight, 1e-3)  # start as shaped noise
        nn.init.zeros_(self.head.bias)
        # Constants, computed even where parameters are only described (the meta device).
        with torch.device("cpu"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "At least one mel filterbank")  # known, see below
            window = torch.hann_window(config.n_fft)
            spread, offset = _mel_to_bins(config, window)
        self.carrier_scale = RAYLEIGH_MEAN * math.sqrt(float(window.square().sum()))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("spread", spread, persistent=False)  # (M, bins)
        self.register_buffer("offset", offset, persistent=False)  # (bins,)
        silence = GATE * (SILENCE * spread.sum(0) + offset).exp()
        self.register_buffer("silence", silence, persistent=False)  # (bins,)

    def lower(self, precision: torch.dtype) -> None:
        """Store the network in ``precision``; levels and the STFT stay in float32."""
        lower(self.modules(), precision)

    def forward(self, log_mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-mel (B, M, L) and unit white noise (B, L * hop) to samples (B, L * hop)."""
        if noise is None:
            raise ValueError("IstftVocoder needs noise of shape (B, L * hop)")
        h = self.embedded(log_mel)
        for block in self.blocks:
            h = block(h)
        gain, real, imaginary = self.split_head(self.norm_out(h.transpose(1, 2)))
        base, carrier = self.base(log_mel), self.analyse(noise.float())
        # exp(4) = 35 dB more than the mel says is more than any envelope needs.
        spectrum = base * (gain.clamp(max=4.0).exp() * carrier + torch.complex(real, imaginary))
        return self.overlap_add(torch.fft.irfft(spectrum, n=self.config.n_fft))

    def embedded(self, log_mel: Tensor) -> Tensor:
        """The first layer: log-mel (B, M, L) to features (B, dim, L)."""
        return self.norm_in(self.embed((log_mel + 5) / 5).transpose(1, 2)).transpose(1, 2)

    def split_head(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised features (B, L, dim) to log gain, real and imaginary part (B, S, bins)."""
        out = self.head(h).float().unflatten(2, (self.config.frames_per_mel, 3, self.bins))
        gain, real, imaginary = out.flatten(1, 2).unbind(2)
        return gain, real, imaginary

    def base(self, log_mel: Tensor) -> Tensor:
        """The mean magnitude (B, S, bins) that the log-mel (B, M, L) says each bin has."""
        with in_float32(log_mel):  # levels are read in float32
            base = (log_mel.float().transpose(1, 2) @ self.spread + self.offset).exp()
            base = (base - self.silence).clamp(min=0.0)
        return base.repeat_interleave(self.config.frames_per_mel, dim=1)

    def frames(self, samples: Tensor) -> Tensor:
        """Samples (B, T) to overlapping frames (B, S, n_fft), zeros around."""
        padded = F.pad(samples, (self.edge, self.edge))
        return padded.unfold(-1, self.config.n_fft, self.hop)

    def analyse(self, noise: Tensor) -> Tensor:
        """Noise (B, T) to a carrier (B, S, bins) of mean magnitude about 1."""
        return torch.fft.rfft(self.frames(noise) * self.window) / self.carrier_scale

    def overlap_add(self, frames: Tensor) -> Tensor:
        """Weighted overlap-add of (B, S, n_fft) to (B, S * hop), normalised by the windows' sum."""
        squares = self.window.square().expand(1, frames.shape[1], -1)
        weight = self._sum(squares).clamp(min=1e-3)
        return self._sum(frames * self.window) / weight

    def _sum(self, frames: Tensor) -> Tensor:
        """The sum (B, S * hop) of overlapping frames (B, S, n_fft), their outer halves left out."""
        count, parts = frames.shape[1], -(-self.config.n_fft // self.hop)
        padded = F.pad(frames, (0, parts * self.hop - self.config.n_fft))
        pieces = padded.unflatten(2, (parts, self.hop))
        total = pieces.new_zeros(len(pieces), count + parts - 1, self.hop)
        for part in range(parts):
            total[:, part : part + count] += pieces[:, :, part]
        return total.flatten(1)[:, self.edge : self.edge + count * self.hop]


def _mel_to_bins(config: IstftVocoderConfig, window: Tensor) -> tuple[Tensor, Tensor]:
    """A log-linear inverse of the mel: log magnitude per bin = log_mel @ spread + offset.

    The offset undoes the mel filters' areas and carries the level from the front end's window to
    this one, so that ``exp`` of the result is the mean STFT magnitude here.
    """
    mel = MelConfig(n_mels=config.n_mels)
    bins = config.n_fft // 2 + 1

    def bank(count: int) -> Tensor:
        return AF.melscale_fbanks(
            count, mel.fmin, mel.fmax, mel.n_mels, mel.sample_rate, "slaney", "slaney"
        )

    areas = bank(mel.n_fft // 2 + 1).sum(0).clamp(min=1e-8)  # (M,)
    shape = bank(bins)  # (bins, M)
    centres = (shape.T / shape.sum(1).clamp(min=1e-8)).T
    empty = shape.sum(1) == 0  # bins no filter touches follow the nearest mel
    nearest = torch.linspace(0, 1, bins)[empty].round().long() * (mel.n_mels - 1)
    centres[empty] = F.one_hot(nearest, mel.n_mels).float()
    level = 0.5 * math.log(
        float(window.square().sum() / torch.hann_window(mel.n_fft).square().sum())
    )
    return centres.T.contiguous(), level - centres @ areas.log()
