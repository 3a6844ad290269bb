"""The diffusion's batches and losses: chunks of albums, and the contexts they share.

A batch is a few windows of albums, each read as one context, and several chunks of each to fill in.
The encoder's own stage is the same with all else frozen. Latents are encoded once, before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lily.config.presets import MEL_FRAMES_PER_LATENT
from lily.config.training import TrainingConfig
from lily.errors import TrainingError
from lily.model.latent_diffusion import Context, LatentDiffusion
from lily.training.corpus import Corpus
from lily.training.windows import Draws, WindowDrawer, padded, whole_frames

Logs = dict[str, Tensor]
Batch = dict[str, Any]
KNOWN_MELS = 0.02  # weight of mel bins below the cutoff in scores of the log-mel


class DiffusionStage:
    """Predict v on cached latents; several chunks of a recording share its context."""

    slow: Sequence[nn.Module] = ()
    slowness = 1.0
    context: Context = "drawn"
    chunks = 4  # rows of a batch that share one context: it is read once

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        self.model, self.config, self.device = model, recipe.diffusion, device
        self.recipe = recipe
        self.changing = recipe.changing_bandwidth
        self.timestep_power = model.timestep_power
        self.modules: list[nn.Module] = [model.model]

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        loss, logs = self.model(batch, generator, context=self.context)
        names = {"loss": "v_mse", "tokens": "tokens", "profile": "profile"}
        return loss, {name: logs[key] for key, name in names.items() if key in logs}

    def validate(self, batch: Batch, generator: torch.Generator) -> Logs:
        """The loss with every row's context, with none and with another's, over the same noise."""
        batch = blind(batch)
        state = generator.get_state()
        _, on = self.model(batch, generator, context="always")
        generator.set_state(state)
        _, off = self.model(batch, generator, context="never")
        generator.set_state(state)
        _, wrong = self.model(exchanged(batch), generator, context="always")
        return {"valid_on": on["loss"], "valid_off": off["loss"], "valid_wrong": wrong["loss"]}

    def batch(self, corpus: Corpus, generator: torch.Generator) -> Batch:
        """AudioSR's keys with latents in place of log-mels, and the windows' contexts."""
        training, frames = self.recipe, whole_frames(self.config.seconds)
        drawer = WindowDrawer(training, Draws(frames, self.chunks, self.changing))
        length = max(whole_frames(_seldom_long(training.context_seconds, generator)), frames)
        count = -(-self.config.batch // self.chunks)
        windows = [drawer.draw(corpus, length, generator) for _ in range(count)]
        rows = [row for window in windows for row in window.rows]
        bins = self.model.first_stage_model.config.bins
        z = torch.stack([row.target for row in rows]).to(self.device).transpose(1, 2)
        low = torch.stack([row.low for row in rows]).to(self.device).transpose(1, 2)
        weights = torch.stack([drawer.latent_weights(window, bins) for window in windows])
        mel_weights = torch.stack([drawer.mel_weights(window, KNOWN_MELS) for window in windows])
        index = torch.arange(len(rows), device=self.device) // self.chunks
        return {
            "fbank_latent": z * self.model.scale_factor,
            "lowpass_latent": low,
            "context_mel": padded([w.context for w in windows]).to(self.device),
            "context_target": padded([w.original for w in windows]).to(self.device),
            "context_lengths": torch.tensor([w.length for w in windows], device=self.device),
            "context_index": index,
            "profile": torch.stack([w.profile for w in windows]).to(self.device),
            "known": torch.stack([w.known for w in windows]).to(self.device),
            "needs_context": torch.tensor([w.needs_context for w in windows])[index],
            "chunk_start": torch.tensor([row.seconds for row in rows]),
            "timestep_power": self.timestep_power,
            "pooling": round(_log_uniform(training.pooling, generator)),
            "loss_weight": weights[index].to(self.device),
            "log_mel": torch.stack([row.log_mel for row in rows]).to(self.device),
            "log_mel_weight": mel_weights[index].to(self.device),
            "narrow": torch.stack([row.narrow for row in rows]).to(self.device),
        }


def blind(batch: Batch) -> Batch:
    """The batch with no figure of any profile set."""
    return {**batch, "known": torch.full_like(batch["known"], math.nan)}


def exchanged(batch: Batch) -> Batch:
    """The batch with every row given another recording's context."""
    return {**batch, "context_index": (batch["context_index"] + 1) % len(batch["context_mel"])}


class EncoderStage(DiffusionStage):
    """Train the encoder and its conditioning alone, on rows that all have their context.

    The rest is frozen, so that encoder off stays what it was, and only what the context knows can
    lower the loss.
    """

    context: Context = "always"
    chunks = 2  # more recordings: what is learned here differs from one to the next

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        super().__init__(model, recipe, device)
        self.config = recipe.encoder
        self.changing = recipe.encoder_changing_bandwidth
        self.timestep_power = recipe.encoder_timestep_power
        if model.unet.global_encoder is None:
            raise TrainingError("This preset has no global encoder; set use_global_encoder: true.")
        self.modules = [model.unet.global_encoder]
        for transformer in model.unet.conditioned():
            self.modules += transformer.global_layers()


def encode_corpus(
    model: LatentDiffusion, corpus: Corpus, device: torch.device, *, set_scale: bool
) -> Iterator[int]:
    """Encode every log-mel the cache lacks a latent for, by this autoencoder.

    Latents are kept as (L, z, M') float16 means; yields how many albums are done. ``set_scale``
    then sets the model's scale factor, once, before the diffusion is trained.
    """
    corpus.latents = _digest(model)
    total, square, count = 0.0, 0.0, 0
    for album in range(len(corpus.albums)):
        for name in ("target", "low"):
            if not corpus.has(album, f"{name}.{corpus.latents}"):
                latent = _encode(model, corpus, album, name, device)
                corpus.store(album, f"{name}.{corpus.latents}", latent)
        if set_scale:  # AudioSR's scale_by_std: latents of unit variance for the diffusion
            values = corpus.crop(album, f"target.{corpus.latents}", 0, corpus.frames[album] // 8)
            total, square = total + float(values.sum()), square + float(values.square().sum())
            count += values.numel()
        yield album + 1
    if set_scale:
        model.scale_factor.fill_((square / count - (total / count) ** 2) ** -0.5)


def _digest(model: LatentDiffusion) -> str:
    """Names the latents of one autoencoder, so that another's are never taken for them."""
    digest = hashlib.blake2b(digest_size=4)
    for parameter in model.first_stage_model.encoder.parameters():
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return f"latent-{digest.hexdigest()}"


def _encode(
    model: LatentDiffusion, corpus: Corpus, album: int, name: str, device: torch.device
) -> np.ndarray:
    """Encode in windows of 10.24 s; what is left of a latent frame at the end is cut."""
    size, pieces = 1024, []
    frames = corpus.frames[album]
    mel = corpus.crop(album, name, 0, frames // MEL_FRAMES_PER_LATENT * MEL_FRAMES_PER_LATENT)
    with torch.inference_mode():
        for start in range(0, len(mel), size):
            latent = model.encode_low(mel[None, start : start + size].to(device))
            pieces.append(latent[0].transpose(0, 1).half().cpu())
    return torch.cat(pieces).numpy()


def _seldom_long(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A length whose density falls with its square: a context's cost rises with its length."""
    low, high = (1 / b for b in bounds)
    return 1 / (low + float(torch.rand((), generator=generator)) * (high - low))


def _log_uniform(bounds: tuple[float, float], generator: torch.Generator) -> float:
    low, high = (math.log(b) for b in bounds)
    return math.exp(low + float(torch.rand((), generator=generator)) * (high - low))
