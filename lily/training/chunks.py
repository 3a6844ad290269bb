"""The diffusion's batches and losses: chunks of albums, and what their contexts are.

A batch is a few windows of albums, each read as one context, and several chunks of each to fill in.
The encoder's own stage is the same with all else frozen. Latents are encoded once, before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lily.config.presets import MEL_FRAMES_PER_LATENT, MelConfig
from lily.config.training import TrainingConfig
from lily.dsp.mel import LogMel
from lily.errors import TrainingError
from lily.model.latent_diffusion import Context, LatentDiffusion
from lily.training.corpus import Corpus

KNOWN_WEIGHT = 0.25  # of latent bins below the cutoff in the diffusion's loss
Logs = dict[str, Tensor]


@dataclass(frozen=True)
class _Row:
    """A chunk: its latents (L, z, M') and where it starts in its window."""

    target: Tensor
    low: Tensor
    seconds: float


@dataclass(frozen=True)
class _Draw:
    """A window of an album, of which ``length`` frames are real, and chunks of it."""

    context: Tensor  # (T, M)
    original: Tensor  # (T, M), before it was degraded
    length: int
    rows: list[_Row]
    weight: Tensor  # (M',)


class DiffusionStage:
    """Predict v on cached latents; several chunks of a recording share its context."""

    context: Context = "drawn"
    chunks = 4  # rows of a batch that share one context: it is read once

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        self.model, self.config, self.device = model, recipe.diffusion, device
        self.recipe, self.mel = recipe, LogMel(MelConfig())
        self.changing = recipe.changing_bandwidth
        self.timestep_power = model.timestep_power
        self.modules: list[nn.Module] = [model.model]

    def loss(self, batch: dict[str, object], generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        loss, logs = self.model(batch, generator, context=self.context)
        return loss, {"v_mse": logs["loss"], **{k: logs[k] for k in ("hint",) if k in logs}}

    def validate(self, batch: dict[str, object], generator: torch.Generator) -> Logs:
        """The loss with every row's context, with none and with another's, over the same noise."""
        state = generator.get_state()
        _, on = self.model(batch, generator, context="always")
        generator.set_state(state)
        _, off = self.model(batch, generator, context="never")
        generator.set_state(state)
        strangers = (batch["context_index"] + 1) % len(batch["context_mel"])
        _, wrong = self.model({**batch, "context_index": strangers}, generator, context="always")
        return {"valid_on": on["loss"], "valid_off": off["loss"], "valid_wrong": wrong["loss"]}

    def batch(self, corpus: Corpus, generator: torch.Generator) -> dict[str, object]:
        """AudioSR's keys with latents in place of log-mels, and the albums' contexts."""
        training, frames = self.recipe, whole_frames(self.config.seconds)
        seconds = _seldom_long(training.context_seconds, generator)
        window = max(whole_frames(seconds), frames)
        draws = [
            self._draw(corpus, window, frames, generator)
            for _ in range(-(-self.config.batch // self.chunks))
        ]
        rows = [row for draw in draws for row in draw.rows]
        z = torch.stack([row.target for row in rows]).to(self.device).transpose(1, 2)
        weights = torch.stack([draw.weight for draw in draws])
        return {
            "fbank_latent": z * self.model.scale_factor,
            "lowpass_latent": torch.stack([r.low for r in rows]).to(self.device).transpose(1, 2),
            "context_mel": torch.stack([draw.context for draw in draws]).to(self.device),
            "context_target": torch.stack([draw.original for draw in draws]).to(self.device),
            "context_lengths": torch.tensor([draw.length for draw in draws], device=self.device),
            "context_index": torch.arange(len(z), device=self.device) // self.chunks,
            "chunk_start": torch.tensor([row.seconds for row in rows]),
            "timestep_power": self.timestep_power,
            "pooling": round(_log_uniform(training.pooling, generator)),
            "loss_weight": weights.repeat_interleave(self.chunks, 0).to(self.device),
        }

    def _draw(self, corpus: Corpus, window: int, frames: int, generator: torch.Generator) -> _Draw:
        """A window of an album as its context, and the chunks that are to be filled in."""
        album, unit = corpus.draw_album(generator), MEL_FRAMES_PER_LATENT
        total = corpus.frames[album] // unit * unit
        room = max(total - window, 0) // unit
        first = int(torch.randint(room + 1, (), generator=generator)) * unit
        length = min(window, total - first)
        context = corpus.crop(album, "low", first, window)
        original = corpus.crop(album, "target", first, window)
        narrow = torch.ones(window // unit, dtype=torch.bool)
        if float(torch.rand((), generator=generator)) < self.changing:
            narrow = _narrow_parts(length, window, frames, generator)
            wide = ~narrow.repeat_interleave(unit)
            context[wide] = original[wide]
        places = narrow.nonzero()[:, 0]
        rows, count = [], frames // unit
        for _ in range(self.chunks):
            # Around a place where the recording is narrow: elsewhere there is nothing to fill in.
            middle = int(places[int(torch.randint(len(places), (), generator=generator))])
            earliest = max(0, middle - count + 1)
            latest = max(0, min(middle, length // unit - count))
            bounds = (min(earliest, latest), latest)
            place = corpus.draw_start(
                album, "low", (first + bounds[0] * unit, first + bounds[1] * unit), unit, generator
            )
            place = (place - first) // unit
            start = first // unit + place
            target = corpus.crop(album, f"target.{corpus.latents}", start, count)
            low = corpus.crop(album, f"low.{corpus.latents}", start, count)
            wide = ~narrow[place : place + count]
            low[: len(wide)][wide] = target[: len(wide)][wide]
            rows.append(_Row(target, low, place * unit * 0.01))
        return _Draw(context, original, length, rows, self._weight(corpus.cutoffs_hz[album]))

    def _weight(self, cutoff_hz: float) -> Tensor:
        """Weights (M',) of the latent bins: what lies below the cutoff is replaced anyway."""
        autoencoder = self.model.first_stage_model.config
        per_bin = autoencoder.mel_bins // autoencoder.bins
        known = self.mel.first_bin_above(0.95 * cutoff_hz) // per_bin
        weight = torch.ones(autoencoder.bins)
        weight[:known] = KNOWN_WEIGHT
        return weight / weight.mean()


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


def whole_frames(seconds: float) -> int:
    """Mel frames of a crop: whole latent frames, and enough of them for the U-Net's strides."""
    unit = 8 * MEL_FRAMES_PER_LATENT
    return max(1, round(seconds * 100 / unit)) * unit


def _narrow_parts(length: int, window: int, frames: int, generator: torch.Generator) -> Tensor:
    """Where a recording of changing bandwidth lost its highs: (window / 8,) bool, in latent frames.

    One to three places cut the recording's ``length`` into parts that are wide and narrow in turn;
    at least ``frames`` of it are narrow. A recording too short for that is narrow throughout.
    """
    unit = MEL_FRAMES_PER_LATENT
    narrow = torch.ones(window // unit, dtype=torch.bool)
    room = (length - frames) // unit
    if room < 1:
        return narrow
    cuts = 1 + int(torch.randint(3, (), generator=generator))
    places = torch.randint(1, length // unit, (cuts,), generator=generator).sort().values.tolist()
    wide = bool(torch.randint(2, (), generator=generator))
    edges = [0, *places, window // unit]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        narrow[start:stop] = not wide
        wide = not wide
    if int(narrow[: length // unit].sum()) < frames // unit:
        narrow[:] = True
        narrow[: int(torch.randint(1, room + 1, (), generator=generator))] = False
    narrow[length // unit :] = False  # padding is never filled in
    return narrow


def _seldom_long(bounds: tuple[float, float], generator: torch.Generator) -> float:
    """A length whose density falls with its square: a context's cost rises with its length."""
    low, high = (1 / b for b in bounds)
    return 1 / (low + float(torch.rand((), generator=generator)) * (high - low))


def _log_uniform(bounds: tuple[float, float], generator: torch.Generator) -> float:
    low, high = (math.log(b) for b in bounds)
    return math.exp(low + float(torch.rand((), generator=generator)) * (high - low))
