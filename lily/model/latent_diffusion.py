"""AudioSR's latent diffusion, whole: U-Net, autoencoder, vocoder, and the loss that trains it.

``LatentDiffusion(**config["model"]["params"])``, then ``loss, logs = model(batch)`` on AudioSR's
own batch keys (``fbank``, ``lowpass_mel``). The context is read from ``context_mel`` or, when that
is absent, from ``lowpass_mel``: never from the clean target. State-dict names are AudioSR's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.audiosr_keys import AUDIOSR_UNUSED
from lily.config.presets import DiffusionConfig
from lily.config.presets import unet_config as read_unet_config
from lily.config.sections import build
from lily.errors import ConfigError
from lily.model.attention import Conditioning
from lily.model.autoencoder import AutoencoderKL, DiagonalGaussian
from lily.model.global_encoder import GlobalContext, token_loss
from lily.model.recording_profile import likelihood_loss, with_known
from lily.model.unet import UNet

CONTEXT_WEIGHT = 0.1  # in the loss: as v's error is some 0.3, and that of the tokens too
UNCONDITIONAL = -11.4981  # AudioSR's low-pass latent where guidance has no condition
Context = Literal["drawn", "always", "never"]
ENCODER_PREFIX = "model.diffusion_model.global_encoder."


class DiffusionWrapper(nn.Module):
    """Holds the U-Net under AudioSR's name ``model.diffusion_model``."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.diffusion_model = unet

    def forward(
        self, x: Tensor, low: Tensor, steps: Tensor, conditioning: Conditioning | None = None
    ) -> Tensor:
        """Noisy latent and low-pass latent, each (B, z, L, M'), to v of the same shape."""
        return self.diffusion_model(torch.cat([x, low], dim=1), steps, conditioning)


class LatentDiffusion(nn.Module):
    """The networks and their training loss; sampling is the engine's."""

    def __init__(
        self,
        *,
        first_stage_config: Mapping[str, Any],
        unet_config: Mapping[str, Any],
        **params: Any,
    ) -> None:
        """``params`` are DiffusionConfig's."""
        super().__init__()
        own = build(DiffusionConfig, params, "model.params", AUDIOSR_UNUSED)
        self.timesteps = own.timesteps
        self.channels = own.channels
        self.unconditional = own.unconditional_prob_cfg
        self.context_dropout = own.context_dropout
        self.timestep_power = own.timestep_power
        self.scale_lowpass = own.scale_lowpass
        self.model = DiffusionWrapper(UNet(read_unet_config(unet_config["params"])))
        self.first_stage_model = AutoencoderKL(**first_stage_config["params"])
        self.register_buffer("scale_factor", torch.tensor(1.0))
        signal = cosine_alphas_cumprod(own.timesteps)
        self.register_buffer("signal_scale", signal.sqrt().float(), persistent=False)
        self.register_buffer("noise_scale", (1 - signal).sqrt().float(), persistent=False)

    @property
    def unet(self) -> UNet:
        """The U-Net, encoder included."""
        return self.model.diffusion_model

    @property
    def encoder_is_trained(self) -> bool:
        """Whether any conditioning layer has left its neutral start."""
        return any(bool(m.global_out.weight.any()) for m in self.unet.conditioned())

    def lower(self, precision: torch.dtype, vocoder: bool = True) -> None:
        """Store the weights in ``precision`` where that costs no quality; for inference only.

        Without ``vocoder`` the vocoder's stay in float32.
        """
        self.unet.lower(precision)
        self.first_stage_model.lower(precision, vocoder)

    def encode_target(self, log_mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-mel (B, T, M) to a scaled latent draw (B, z, L, M')."""
        return self.first_stage_model.encode(log_mel[:, None]).sample(generator) * self.scale_factor

    def encode_low(self, log_mel: Tensor) -> Tensor:
        """Band-limited log-mel (B, T, M) to its mean latent, not scaled."""
        return self.low_posterior(log_mel).mean

    def low_posterior(self, log_mel: Tensor) -> DiagonalGaussian:
        """Band-limited log-mel (B, T, M) to the posterior of its latent; AudioSR draws from it."""
        return self.first_stage_model.encode(log_mel[:, None])

    def predict_v(
        self, x: Tensor, low: Tensor, steps: Tensor, conditioning: Conditioning | None = None
    ) -> Tensor:
        """Noisy latent and low-pass latent, each (B, z, L, M'), at times (B,) to v.

        With ``scale_lowpass`` the low-pass latent, and guidance's constant in its place, is scaled
        as the noisy one is. Source: AudioSR ``ddpm.py: DiffusionWrapper.forward``.
        """
        low = low * self.scale_factor if self.scale_lowpass else low
        return self.model(x, low, steps, conditioning)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents (B, z, L, M') to log-mel (B, T, M)."""
        return self.first_stage_model.decode(z / self.scale_factor)[:, 0]

    def read_context(self, log_mel: Tensor, lengths: Tensor | None, pooling: int) -> GlobalContext:
        """Band-limited log-mel of whole recordings (B, T, M) to their context."""
        encoder = self.unet.global_encoder
        if encoder is None:
            raise ConfigError("This model has no global encoder; set use_global_encoder: true.")
        return encoder(log_mel.transpose(1, 2)[:, None], lengths, pooling)

    def forward(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator | None = None,
        *,
        context: Context = "drawn",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The v-prediction loss of a batch, and figures to log.

        ``context``: "drawn" drops the input and the context of random rows, "always" and "never"
        give every row its input, and the context to all or to none.

        Keys: ``fbank`` (B, T, M) the target and ``lowpass_mel`` (B, T, M) the input, or their
        latents already encoded as ``fbank_latent`` and ``lowpass_latent``; optional
        ``context_mel`` (R, T', M) of whole recordings with ``context_lengths`` (R,) frames,
        ``context_index`` (B,) saying which recording a row is cut from (absent: R = B, in order),
        ``context_target`` (R, T', M) those recordings before they were degraded, which the encoder
        never sees and is asked for, ``profile`` (R, 12) theirs, ``known`` (R, 12) the figures of it
        that are set (NaN: not set), ``needs_context`` (B,) rows that never drop theirs,
        ``chunk_start`` (B,) seconds, ``pooling``, ``loss_weight`` (B, M') of the latent's bins, and
        ``timestep_power`` in place of the model's.
        Source: AudioSR ``ddpm.py: p_losses``.
        """
        with torch.no_grad():
            z = batch.get("fbank_latent")
            z = self.encode_target(batch["fbank"], generator) if z is None else z
            low = batch.get("lowpass_latent")
            low = self.encode_low(batch["lowpass_mel"]) if low is None else low
        draw = _Draw(generator, z.device)
        # A power above 1 trains more on the noisy times, where a few-step sampler spends its steps.
        power = float(batch.get("timestep_power", self.timestep_power))
        places = 1 - draw.uniform(z.shape[0]) ** power
        steps = (places * self.timesteps).long().clamp(0, self.timesteps - 1)
        noise = draw.normal(z.shape)
        conditional = draw.uniform(z.shape[0]) >= (
            self.unconditional if context == "drawn" else 0.0
        )
        low = torch.where(conditional[:, None, None, None], low, UNCONDITIONAL)
        informed = conditional & self.informed(batch, draw.uniform(z.shape[0]), context)
        signal = self.signal_scale[steps][:, None, None, None]
        spread = self.noise_scale[steps][:, None, None, None]
        target = signal * noise - spread * z
        conditioning, context_losses = self.training_conditioning(batch, informed)
        v = self.predict_v(signal * z + spread * noise, low, steps, conditioning)
        errors = F.mse_loss(v.float(), target, reduction="none").mean((1, 2))  # (B, M')
        weight = batch.get("loss_weight")
        loss = (errors if weight is None else errors * weight).mean()
        logs = {"loss": loss.detach(), "informed": informed.float().mean()}
        for name, value in context_losses.items():
            logs[name] = value.detach()
            loss = loss + CONTEXT_WEIGHT * value
        return loss, logs

    def informed(self, batch: Mapping[str, Any], places: Tensor, context: Context) -> Tensor:
        """Which rows (B,) have their context, given uniform draws (B,)."""
        dropout = {"drawn": self.context_dropout, "always": 0.0, "never": 1.0}[context]
        informed = places >= dropout
        if context == "drawn" and "needs_context" in batch:
            informed = informed | batch["needs_context"].to(informed.device)
        return informed

    def training_conditioning(
        self, batch: Mapping[str, Any], informed: Tensor
    ) -> tuple[Conditioning | None, dict[str, Tensor]]:
        """The conditioning of the informed rows, and how far the context is from the truth.

        The losses are those of the keys that the batch has: ``context_target`` and ``profile``.
        """
        rows = informed.nonzero()[:, 0]
        if self.unet.global_encoder is None or not len(rows):
            return None, {}
        mel, lengths, index = batch.get("context_mel"), batch.get("context_lengths"), None
        asked = [batch.get(key) for key in ("context_target", "profile", "known")]
        if mel is None:
            mel, lengths = batch["lowpass_mel"], None
        elif "context_index" in batch:
            index = batch["context_index"].to(mel.device)[rows]
        if index is None:  # one recording a row: read only those that are used
            mel, lengths, *asked = (x if x is None else x[rows] for x in (mel, lengths, *asked))
            index = torch.arange(len(rows), device=mel.device)
        context = self.read_context(mel, lengths, int(batch.get("pooling", 1)))
        (original, profile, known), losses = asked, {}
        if original is not None:
            losses["tokens"] = token_loss(context, original, lengths)
        if profile is not None:
            losses["profile"] = likelihood_loss(context.vector, profile)
        if known is not None:
            context = with_known(context, known)
        starts = batch.get("chunk_start")
        starts = torch.zeros(len(informed)) if starts is None else starts
        conditioning = Conditioning(
            cache=self.unet.context_cache(context).select(index),
            starts=starts.cpu().double()[rows.cpu()],
            rows=rows,
        )
        return conditioning, losses


class _Draw:
    """Random numbers for training, from one explicit generator when there is one."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self.source = device if generator is None else generator.device

    def normal(self, shape: torch.Size) -> Tensor:
        noise = torch.randn(shape, generator=self.generator, device=self.source)
        return noise.to(self.device)

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator, device=self.source).to(self.device)


def cosine_alphas_cumprod(timesteps: int, offset: float = 8e-3) -> Tensor:
    """Signal power (timesteps,) in float64: Nichol and Dhariwal 2021, equation 17, uncapped."""
    with torch.device("cpu"):  # constants, computed even where parameters are only described
        places = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps + offset
        alphas = torch.cos(places / (1 + offset) * (math.pi / 2)).square()
        return alphas[1:] / alphas[0]
