"""The stages of the recipe: the modules each trains, its batches and its loss.

Everything random in a step comes from one generator, so a saved generator state resumes the stage
exactly. The order is autoencoder, vocoder on the autoencoder's reconstructions, diffusion on
latents encoded once (``chunks.py``), its last stage (``finish.py``), and the encoder alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import MelConfig
from lily.config.training import TrainingConfig
from lily.dsp.mel import LogMel
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.carrier_stage import CarrierStage
from lily.training.chunks import DiffusionStage, EncoderStage, Logs
from lily.training.corpus import Corpus
from lily.training.finish import FinishStage
from lily.training.history import LEVEL_PEAK
from lily.training.losses import energy_distance
from lily.training.windows import whole_frames

KL_WEIGHT = 1e-2  # keeps latents near unit variance; the reconstruction does not feel it


class AutoencoderStage:
    """Reconstruct log-mels of recordings, whole and band-limited: L1, and a little KL."""

    slow: Sequence[nn.Module] = ()  # trained at ``slowness`` x the learning rate
    slowness = 1.0

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        self.model, self.config, self.device = model, recipe.autoencoder, device
        network = model.first_stage_model
        self.modules: list[nn.Module] = [
            network.encoder,
            network.decoder,
            network.quant_conv,
            network.post_quant_conv,
        ]

    def batch(self, corpus: Corpus, generator: torch.Generator) -> Tensor:
        """Crops of log-mel (B, 1, L, M)."""
        frames = whole_frames(self.config.seconds)
        crops = []
        for row in range(self.config.batch):
            album = corpus.draw_album(generator)
            name = "low" if row % 4 == 3 else "target"  # a quarter of what it will meet
            bounds = (0, corpus.frames[album] - frames)
            start = corpus.draw_start(album, name, bounds, 1, generator)
            crops.append(corpus.crop(album, name, start, frames))
        return torch.stack(crops)[:, None].to(self.device)

    def loss(self, mel: Tensor, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        posterior = self.model.first_stage_model.encode(mel)
        decoded = self.model.first_stage_model.decode(posterior.sample(generator))
        error = F.l1_loss(decoded, mel)
        kl = posterior.kl()
        return error + KL_WEIGHT * kl, {"l1": error.detach(), "kl": kl.detach()}

    def validate(self, mel: Tensor, generator: torch.Generator) -> Logs:
        """The reconstruction error without the posterior's noise."""
        network = self.model.first_stage_model
        return {"valid_l1": F.l1_loss(network.decode(network.encode(mel).mean), mel)}


class VocoderStage:
    """Draw samples for the autoencoder's log-mel twice, and score them against the recording."""

    slow: Sequence[nn.Module] = ()
    slowness = 1.0

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        self.model, self.config, self.device = model, recipe.vocoder, device
        self.modules: list[nn.Module] = [model.first_stage_model.vocoder]
        self.mel = LogMel(MelConfig(), device)

    def batch(self, corpus: Corpus, generator: torch.Generator) -> Tensor:
        """Crops of recordings (B, T), each recording's peak at the level of inference."""
        frames, hop = whole_frames(self.config.seconds), self.mel.config.hop
        crops, gains = [], []
        for _ in range(self.config.batch):
            crop, peak = corpus.draw_samples(frames * hop, generator)
            crops.append(crop)
            gains.append(LEVEL_PEAK / max(peak, 1e-5))
        samples = torch.stack(crops).to(self.device)
        return samples * torch.tensor(gains, device=self.device)[:, None]

    def loss(self, samples: Tensor, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        mel = self.mel(samples)  # (B, L, M)
        half = len(mel) // 2
        with torch.no_grad():  # half of the batch as the autoencoder renders it, half as it is
            network = self.model.first_stage_model
            mel[:half] = network.decode(network.encode(mel[:half, None]).mean)[:, 0]
        vocoder = self.model.first_stage_model.vocoder
        noise = torch.randn(2, *samples.shape, generator=generator).to(self.device)
        first, second = (vocoder(mel.transpose(1, 2), n) for n in noise)
        edge = 4 * self.mel.config.hop  # the crop's ends know nothing of what lies beyond
        loss, plain = energy_distance(*(x[:, edge:-edge] for x in (samples, first, second)))
        return loss, {"distance": plain}

    def validate(self, samples: Tensor, generator: torch.Generator) -> Logs:
        """The distance of a draw to the recording."""
        return {"valid_distance": self.loss(samples, generator)[1]["distance"]}


Stage = AutoencoderStage | VocoderStage | CarrierStage | DiffusionStage
KINDS = {
    "autoencoder": AutoencoderStage,
    "vocoder": VocoderStage,
    "carriers": CarrierStage,
    "diffusion": DiffusionStage,
    "finish": FinishStage,
    "encoder": EncoderStage,
}
