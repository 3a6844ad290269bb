"""The diffusion's last stage: one evaluation from the noisiest time, scored in the log-mel.

Half of the windows of a batch keep the loss of the diffusion, so that more steps go on working.
The other half are drawn twice from noise alone and decoded by the frozen decoder; both draws are
scored against the original (``mel_score.py``). The noise is scaled by a temperature drawn for each
row, and so is the spread that the score asks for: at 0 the model learns the best single answer, at
1 a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.config.training import TrainingConfig
from lily.diffusion.samplers import TIMES, noisiest_scales
from lily.dsp.mel import LOG_FLOOR
from lily.model.latent_diffusion import CONTEXT_WEIGHT, Context, LatentDiffusion
from lily.training.chunks import Batch, DiffusionStage, Logs, blind, exchanged
from lily.training.mel_score import Weights, frame_weights, mel_score

FULL_TEMPERATURE = 0.25  # share of rows at temperature 1; the others are uniform in 0 to 1
BELOW_FLOOR = 0.1  # slope of the log-mel below its floor: inference clamps it there


class FinishStage(DiffusionStage):
    """Predict the clean latent in one evaluation, by a proper score of the decoded log-mel."""

    chunks = 2  # more recordings a batch: what is asked here differs from one to the next

    def __init__(self, model: LatentDiffusion, recipe: TrainingConfig, device: torch.device):
        super().__init__(model, recipe, device)
        self.config = recipe.finish

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Logs]:
        """One batch's loss and figures."""
        count = len(batch["context_mel"])
        loss, logs = super().loss(windows_of(batch, 0, count // 2), generator)
        part = windows_of(batch, count // 2, count)
        score, figures = self.score(part, generator)
        return loss + score, {**logs, **figures}

    def validate(self, batch: Batch, generator: torch.Generator) -> Logs:
        """Distances of a draw and of the best answer: blind, set, without and with another's
        context, over the same noise."""
        figures, state = {}, generator.get_state()
        cases = {
            "on": (blind(batch), "always"),
            "set": ({**batch, "known": batch["profile"]}, "always"),
            "off": (batch, "never"),
            "wrong": (blind(exchanged(batch)), "always"),
        }
        for name, (rows, context) in cases.items():
            for temperature in (0.0, 1.0):
                generator.set_state(state)
                _, found = self.score(rows, generator, context, temperature)
                figures[f"valid_{name}_{temperature:g}"] = found["distance"]
                if name == "on":
                    figures[f"valid_bias_{temperature:g}"] = found["bias_db"]
        return figures

    def score(
        self,
        batch: Batch,
        generator: torch.Generator,
        context: Context = "drawn",
        temperature: float | None = None,
    ) -> tuple[Tensor, Logs]:
        """The score of two draws of every row, at a ``temperature`` or at random ones."""
        low = batch["lowpass_latent"]
        rows = len(low)
        chance = torch.rand(3, rows, generator=generator).to(self.device)
        heat = torch.where(chance[0] < FULL_TEMPERATURE, 1.0, chance[1])
        if temperature is not None:
            heat = torch.full_like(heat, temperature)
        noise = torch.randn(2, *low.shape, generator=generator).to(self.device)
        noise = (noise * heat[:, None, None, None]).flatten(0, 1)
        informed = self.model.informed(batch, chance[2], context)
        conditioning, losses = self.model.training_conditioning(
            _twice(batch), torch.cat([informed, informed])
        )
        steps = torch.full((2 * rows,), TIMES - 1, device=self.device)
        v = self.model.predict_v(noise, low.repeat(2, 1, 1, 1), steps, conditioning)
        signal, spread = noisiest_scales()
        made = self.model.decode(signal * noise - spread * v).float()
        made = F.leaky_relu(made - LOG_FLOOR, BELOW_FLOOR) + LOG_FLOOR
        target = batch["log_mel"]
        weights = Weights(frame_weights(target, batch["narrow"]), batch["log_mel_weight"])
        loss, figures = mel_score(target, made[:rows], made[rows:], weights, heat)
        return loss + CONTEXT_WEIGHT * sum(losses.values()), figures


def windows_of(batch: Batch, first: int, stop: int) -> Batch:
    """The part of a batch that belongs to its windows [first, stop)."""
    count, index = len(batch["context_mel"]), batch["context_index"]
    rows = (index >= first) & (index < stop)
    part = {}
    for key, value in batch.items():
        if not isinstance(value, Tensor):
            part[key] = value
        elif len(value) == count and key in PER_WINDOW:
            part[key] = value[first:stop]
        else:
            part[key] = value[rows.to(value.device)]
    part["context_index"] = part["context_index"] - first
    return part


PER_WINDOW = ("context_mel", "context_target", "context_lengths", "profile", "known")


def _twice(batch: Batch) -> Batch:
    """The batch with its rows repeated, their windows as they are."""
    return {
        **batch,
        "context_index": batch["context_index"].repeat(2),
        "chunk_start": batch["chunk_start"].repeat(2),
    }
