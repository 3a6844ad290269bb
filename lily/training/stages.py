"""The four stages of the recipe: what each trains, on which batch, with which loss.

A stage is a loss over a generator: everything random in a step comes from that generator, so a
saved generator state resumes the stage exactly. Autoencoder first, then the vocoder on what the
autoencoder makes of the log-mel, the diffusion on latents encoded once, at last the encoder alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config import MEL_FRAMES_PER_LATENT, MelConfig, StageConfig, TrainingConfig
from lily.dsp.mel import LogMel
from lily.errors import TrainingError
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.dataset import LEVEL_PEAK, Corpus
from lily.training.losses import energy_distance

STAGES = ("autoencoder", "vocoder", "diffusion", "encoder")
KL_WEIGHT = 1e-2  # keeps latents near unit variance; the reconstruction does not feel it
CHUNKS_PER_RECORDING = 4  # rows of a diffusion batch that share one context: it is read once
Logs = dict[str, Tensor]


class AutoencoderStage:
    """Reconstruct log-mels of recordings, whole and band-limited: L1, and a little KL."""

    def __init__(self, model: LatentDiffusion, config: StageConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        network = model.first_stage_model
        self.modules: list[nn.Module] = [
            network.encoder,
            network.decoder,
            network.quant_conv,
            network.post_quant_conv,
        ]

    def loss(self, corpus: Corpus, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        frames = _frames(self.config.seconds)
        crops = []
        for row in range(self.config.batch):
            index, variant = corpus.draw(generator)
            start = corpus.start(index, frames, generator)
            name = "low" if row % 4 == 3 else "target"  # a quarter of what it will meet
            crops.append(corpus.crop(index, f"{name}.{variant}", start, frames))
        mel = torch.stack(crops)[:, None].to(self.device)
        posterior = self.model.first_stage_model.encode(mel)
        decoded = self.model.first_stage_model.decode(posterior.sample(generator))
        error = F.l1_loss(decoded, mel)
        kl = posterior.kl()
        return error + KL_WEIGHT * kl, {"l1": error.detach(), "kl": kl.detach()}


class VocoderStage:
    """Draw samples for the autoencoder's log-mel twice, and score them against the recording."""

    def __init__(self, model: LatentDiffusion, config: StageConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        self.modules: list[nn.Module] = [model.first_stage_model.vocoder]
        self.mel = LogMel(_MEL, device)

    def loss(self, corpus: Corpus, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        frames, hop = _frames(self.config.seconds), self.mel.config.hop
        crops, gains = [], []
        for _ in range(self.config.batch):
            index, _ = corpus.draw(generator)
            start = corpus.start(index, frames, generator)
            crops.append(corpus.crop(index, "samples", start * hop, frames * hop))
            gains.append(LEVEL_PEAK / max(corpus.peaks[index], 1e-5))
        samples = torch.stack(crops).to(self.device)
        samples = samples * torch.tensor(gains, device=self.device)[:, None]
        mel = self.mel(samples)  # (B, L, M)
        half = len(mel) // 2
        with torch.no_grad():  # half of the batch as the autoencoder renders it, half as it is
            network = self.model.first_stage_model
            mel[:half] = network.decode(network.encode(mel[:half, None]).mean)[:, 0]
        vocoder = self.model.first_stage_model.vocoder
        noise = torch.randn(2, *samples.shape, generator=generator).to(self.device)
        first, second = (vocoder(mel.transpose(1, 2), n) for n in noise)
        edge = 4 * hop  # the crop's ends know nothing of what lies beyond
        loss, plain = energy_distance(*(x[:, edge:-edge] for x in (samples, first, second)))
        return loss, {"distance": plain}


class DiffusionStage:
    """Predict v on cached latents; several chunks of a recording share its context."""

    always_informed = False

    def __init__(self, model: LatentDiffusion, config: StageConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        self.modules: list[nn.Module] = [model.model]

    def loss(self, corpus: Corpus, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        batch = self.batch(corpus, generator)
        loss, logs = self.model(batch, generator, always_informed=self.always_informed)
        return loss, {"v_mse": logs["loss"], "informed": logs["informed"]}

    def batch(self, corpus: Corpus, generator: torch.Generator) -> dict[str, object]:
        """AudioSR's keys with latents in place of log-mels, and the recordings' contexts."""
        training = corpus.config
        frames = _frames(self.config.seconds)
        window = max(_frames(training.context_seconds), frames)
        targets, lows, contexts, lengths, starts = [], [], [], [], []
        recordings = -(-self.config.batch // CHUNKS_PER_RECORDING)
        for _ in range(recordings):
            index, variant = corpus.draw(generator)
            first = corpus.start(index, window, generator, MEL_FRAMES_PER_LATENT)
            length = min(window, corpus.frames[index] - first)
            context = corpus.crop(index, f"low.{variant}", first, window)
            narrow = (0, length)
            if float(torch.rand((), generator=generator)) < training.changing_bandwidth:
                narrow = _narrow_part(length, frames, generator)
                whole = corpus.crop(index, f"target.{variant}", first, window)
                whole[narrow[0] : narrow[1]] = context[narrow[0] : narrow[1]]
                context = whole
            contexts.append(context)
            lengths.append(length)
            for _ in range(CHUNKS_PER_RECORDING):
                # Only from where the recording is narrow: elsewhere there is nothing to fill in.
                room = max(narrow[1] - narrow[0] - frames, 0) // MEL_FRAMES_PER_LATENT
                place = int(torch.randint(room + 1, (), generator=generator))
                place += narrow[0] // MEL_FRAMES_PER_LATENT
                row = first // MEL_FRAMES_PER_LATENT + place
                count = frames // MEL_FRAMES_PER_LATENT
                targets.append(corpus.crop(index, f"target.{variant}.{corpus.latents}", row, count))
                lows.append(corpus.crop(index, f"low.{variant}.{corpus.latents}", row, count))
                starts.append(place * MEL_FRAMES_PER_LATENT * 0.01)
        pooling = int(torch.randint(*_inclusive(training.pooling), (), generator=generator))
        z = torch.stack(targets).to(self.device).transpose(1, 2) * self.model.scale_factor
        return {
            "fbank_latent": z,
            "lowpass_latent": torch.stack(lows).to(self.device).transpose(1, 2),
            "context_mel": torch.stack(contexts).to(self.device),
            "context_lengths": torch.tensor(lengths, device=self.device),
            "context_index": torch.arange(len(z), device=self.device) // CHUNKS_PER_RECORDING,
            "chunk_start": torch.tensor(starts),
            "pooling": pooling,
        }


class EncoderStage(DiffusionStage):
    """Train the encoder and its conditioning alone, on rows that all have their context.

    The rest is frozen, so that encoder off stays what it was, and only what the context knows can
    lower the loss.
    """

    always_informed = True

    def __init__(self, model: LatentDiffusion, config: StageConfig, device: torch.device) -> None:
        super().__init__(model, config, device)
        if model.unet.global_encoder is None:
            raise TrainingError("This preset has no global encoder; set use_global_encoder: true.")
        self.modules = [model.unet.global_encoder]
        for transformer in model.unet.conditioned():
            self.modules += transformer.global_layers()


Stage = AutoencoderStage | VocoderStage | DiffusionStage
_MEL = MelConfig()
KINDS = {
    "autoencoder": AutoencoderStage,
    "vocoder": VocoderStage,
    "diffusion": DiffusionStage,
    "encoder": EncoderStage,
}


def encode_corpus(
    model: LatentDiffusion, corpus: Corpus, device: torch.device, *, set_scale: bool
) -> Iterator[int]:
    """Encode every log-mel the cache lacks a latent for, by this autoencoder.

    Latents are kept as (L, z, M') float16 means; yields each recording's index when it is done.
    ``set_scale`` then sets the model's scale factor, once, before the diffusion is trained.
    """
    corpus.latents = _digest(model)
    total, square, count = 0.0, 0.0, 0
    for index in corpus:
        for variant in range(corpus.config.variants):
            for name in (f"target.{variant}", f"low.{variant}"):
                if not corpus.has(index, f"{name}.{corpus.latents}"):
                    latent = _encode(model, corpus, index, name, device)
                    corpus.store(index, f"{name}.{corpus.latents}", latent)
        stored = corpus.array(index, f"target.0.{corpus.latents}")
        values = torch.from_numpy(stored.astype("float32"))
        total, square = total + float(values.sum()), square + float(values.square().sum())
        count += values.numel()
        yield index
    if set_scale:  # AudioSR's scale_by_std: latents of unit variance for the diffusion
        model.scale_factor.fill_((square / count - (total / count) ** 2) ** -0.5)


def _digest(model: LatentDiffusion) -> str:
    """Names the latents of one autoencoder, so that another's are never taken for them."""
    digest = hashlib.blake2b(digest_size=4)
    for parameter in model.first_stage_model.encoder.parameters():
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return f"latent-{digest.hexdigest()}"


def _encode(
    model: LatentDiffusion, corpus: Corpus, index: int, name: str, device: torch.device
) -> object:
    """Encode in windows of 10.24 s; what is left of a latent frame at the end is cut."""
    size, pieces = 1024, []
    mel = torch.from_numpy(corpus.array(index, name).astype("float32"))
    mel = mel[: len(mel) // MEL_FRAMES_PER_LATENT * MEL_FRAMES_PER_LATENT]
    with torch.inference_mode():
        for start in range(0, len(mel), size):
            latent = model.encode_low(mel[None, start : start + size].to(device))
            pieces.append(latent[0].transpose(0, 1).half().cpu())
    return torch.cat(pieces).numpy()


def _frames(seconds: float) -> int:
    """Mel frames of a crop: whole latent frames, and enough of them for the U-Net's strides."""
    unit = 8 * MEL_FRAMES_PER_LATENT
    return max(1, round(seconds * 100 / unit)) * unit


def _narrow_part(length: int, frames: int, generator: torch.Generator) -> tuple[int, int]:
    """The stretch of a recording of changing bandwidth that lost its highs: its start or its end.

    Between a chunk and all but a chunk of ``length`` frames, in whole latent frames; a recording
    too short for two parts is narrow throughout.
    """
    unit = MEL_FRAMES_PER_LATENT
    room = (length - 2 * frames) // unit
    if room < 0:
        return 0, length
    size = frames + int(torch.randint(room + 1, (), generator=generator)) * unit
    at_start = bool(torch.randint(2, (), generator=generator))
    start = (length - size) // unit * unit
    return (0, size) if at_start else (start, length)


def _inclusive(bounds: tuple[int, int]) -> tuple[int, int]:
    return bounds[0], bounds[1] + 1


def stage_config(config: TrainingConfig, name: str) -> StageConfig:
    """The section of the recipe a stage reads."""
    return getattr(config, name)
