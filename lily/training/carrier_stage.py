"""The carrier vocoder's stage: two draws above a random cutoff, scored against the recording.

The trunk's first blocks are frozen; its last blocks and the output head train at a fifth of the
rate of the gate and shape heads. Half of the rows have a log-mel that the model generates, so it is
best run when the diffusion is trained. A third of each batch is synthetic. The drawn copy has
another lag in each of the two draws: only so does the score credit lines at unknown places.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import MelConfig
from lily.config.training import TrainingConfig
from lily.diffusion.samplers import SAMPLERS, sample
from lily.dsp.carriers import Guide, LowBand
from lily.dsp.degrade import apply_lowpass, random_lowpass
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.errors import TrainingError
from lily.model.carrier_vocoder import CarrierVocoder
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.corpus import Corpus
from lily.training.history import DETECTED, LEVEL_PEAK
from lily.training.losses import energy_distance_above
from lily.training.synthetic import synthetic
from lily.training.windows import whole_frames

Logs = dict[str, Tensor]
SYNTHETIC = 3  # every third row
EDGE = 4 * 480  # samples left out of the score at both ends of a crop, which know no neighbours
JUDGED_FROM = 0.95  # x cutoff: from here on most of what is heard is generated
# What the rows of a batch get as the log-mel above the cutoff; synthetic ones are among all kinds.
LOG_MELS = ("true", "generated", "true", "rendered", "generated", "generated")
GENERATED_STEPS = 2
LEVEL_ERROR = 0.35  # 3 dB in natural log: how far a generated log-mel is off, on a whole crop
FINE_ERROR = 0.25  # the same, cell by cell


@dataclass(frozen=True)
class Crops:
    """Rows of a batch: the recording, its band-limited version and where that ends."""

    target: Tensor  # (B, T)
    low: Tensor  # (B, T)
    cutoff_hz: Tensor  # (B,)


class CarrierStage:
    """Train the gate and shape heads of a carrier vocoder, and the last blocks of its trunk."""

    slowness = 0.2  # x learning rate: for layers that were trained before

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        vocoder = model.first_stage_model.vocoder
        if not isinstance(vocoder, CarrierVocoder):
            raise TrainingError("This preset has no carrier vocoder; set kind: istft_carriers.")
        self.model, self.vocoder, self.device = model, vocoder, device
        self.config, self.cutoffs_hz = recipe.carriers, recipe.cutoff_hz
        self.mel = LogMel(MelConfig(), device)
        # Chosen after training (docs/training.md): the score would take them back.
        vocoder.sharpen = 0.0
        vocoder.tilt.zero_()
        trained = vocoder.blocks[-vocoder.guided_blocks :]
        self.slow: list[nn.Module] = [*trained, vocoder.norm_out, vocoder.head]
        fresh = [vocoder.adapt, vocoder.side, vocoder.side_block, vocoder.gates, vocoder.shape]
        self.modules: list[nn.Module] = [*self.slow, *fresh]

    def batch(self, corpus: Corpus, generator: torch.Generator) -> Crops:
        """Crops of recordings and synthetic ones, each through a low-pass of its own."""
        count = whole_frames(self.config.seconds) * self.mel.config.hop
        rows = []
        for row in range(self.config.batch):
            if row % SYNTHETIC == SYNTHETIC - 1:
                crop = synthetic(count, generator)
            else:
                crop, peak = corpus.draw_samples(count, generator)
                crop = crop * (LEVEL_PEAK / max(peak, 1e-5))
            rows.append((crop, *self._limited(crop, generator)))
        target, low, cutoffs = zip(*rows, strict=True)
        return Crops(
            torch.stack(target).to(self.device),
            torch.stack(low).to(self.device),
            torch.tensor(cutoffs, device=self.device),
        )

    def loss(self, crops: Crops, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        with torch.no_grad():
            log_mel = self._log_mels(crops, generator).transpose(1, 2)
            cutoff = crops.cutoff_hz[:, None].expand(-1, log_mel.shape[2])
            band = LowBand(crops.low[:, None], cutoff)
            aligned, features, level = band.aligned(), band.features(), band.level()
        draws = []
        for _ in range(2):
            noise = torch.randn(crops.target.shape, generator=generator).to(self.device)
            place = torch.rand(len(noise), 1, generator=generator).to(self.device)
            with torch.no_grad():
                copies = torch.stack([aligned, band.drawn(place.expand_as(band.lag))], 2)
            draws.append(self.vocoder(log_mel, noise, Guide(copies, features, level, cutoff)))
        scored = (x[:, EDGE:-EDGE] for x in (crops.target, *draws))
        loss, terms = energy_distance_above(*scored, JUDGED_FROM * crops.cutoff_hz)
        return loss, {"score": loss.detach(), **terms}

    def validate(self, crops: Crops, generator: torch.Generator) -> Logs:
        """The score on held-out crops."""
        return {f"valid_{name}": value for name, value in self.loss(crops, generator)[1].items()}

    def _limited(self, crop: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        """Low-pass as recordings are and as the engine does, near the cutoff it would detect."""
        spec = random_lowpass(generator, self.cutoffs_hz)
        place = float(torch.rand((), generator=generator))
        cutoff = spec.cutoff_hz * (DETECTED[0] + place * (DETECTED[1] - DETECTED[0]))
        low = apply_lowpass(crop[None], spec, 48_000)
        return filter_whole(low, band_limit_kernel(cutoff, 48_000))[0], cutoff

    def _log_mels(self, crops: Crops, generator: torch.Generator) -> Tensor:
        """Log-mels (B, L, M), row by row the recording's own, the model's, or a rendered one.

        Below the cutoff all have the recording's own, as in the engine.
        """
        true, low = self.mel(crops.target), self.mel(crops.low)
        made = {"true": true, "generated": self._generated(low, generator)}
        made["rendered"] = self._rendered(true, generator)
        rows = []
        for row, cutoff in enumerate(crops.cutoff_hz.tolist()):
            known = self.mel.first_bin_above(JUDGED_FROM * cutoff)
            above = made[LOG_MELS[row % len(LOG_MELS)]][row, :, known:]
            rows.append(torch.cat([low[row, :, :known], above], 1))
        return torch.stack(rows).clamp(min=LOG_FLOOR)

    def _generated(self, low: Tensor, generator: torch.Generator) -> Tensor:
        """The model's own log-mels (B, L, M) of band-limited ones, in a few steps, no context."""
        latent = self.model.encode_low(low)
        noise = torch.randn(latent.shape, generator=generator).to(self.device)
        steps = sample(
            lambda x, t: self.model.predict_v(x, latent, t),
            lambda _step: noise,
            sampler=SAMPLERS[0],
            steps=GENERATED_STEPS,
            device=self.device,
        )
        *_, (_, clean) = steps
        return self.model.decode(clean)

    def _rendered(self, true: Tensor, generator: torch.Generator) -> Tensor:
        """Log-mels (B, L, M) through the autoencoder, blurred, noisy and off in level."""
        network = self.model.first_stage_model
        made = network.decode(network.encode(true[:, None]).mean)
        width = int(torch.randint(3, (), generator=generator)) * 2 + 1
        made = F.avg_pool2d(made, (width, 3), 1, (width // 2, 1), count_include_pad=False)[:, 0]
        level = LEVEL_ERROR * torch.randn(len(true), 1, 1, generator=generator)
        fine = FINE_ERROR * torch.randn(made.shape, generator=generator)
        return made + (level + fine).to(made.device)
