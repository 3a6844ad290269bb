"""Distil the encoder of earlier releases, which read every log-mel cell, into today's.

Today's averages 2 x 2 cells first. Both have parameters of the same shapes: the new one begins from
the old one's and learns, on windows drawn as in training, to give the old one's features, tokens
and vector. A tenth of the encoder's own losses (tokens against the original's cepstra, the vector
against the recording's profile) keeps it right where the old one erred. No U-Net is needed.

    python benchmarks/distil_encoder.py --data recordings/ --out distil/ --teacher old.safetensors

``--teacher`` is the ``model.safetensors`` of a ``lily-mini`` of before; the result is a
``model.safetensors`` in ``--out`` that differs in the encoder alone, to replace it with. The
prepared corpus is kept there too. The same seed, data and threads give the same weights.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lily.config.presets import GlobalEncoderConfig, MelConfig, load_config, training_config
from lily.config.training import TrainingConfig
from lily.model.global_encoder import STRIDE, GlobalAudioEncoder, GlobalContext, token_loss
from lily.model.latent_diffusion import ENCODER_PREFIX
from lily.model.recording_profile import likelihood_loss
from lily.training.corpus import Corpus
from lily.training.dataset import seeded
from lily.training.parallel import World
from lily.training.train import prepare
from lily.training.windows import Draws, Window, WindowDrawer, padded, whole_frames

TOKEN = 64  # entries of a token and of the vector
VARIANTS = 2  # times that the corpus is joined into albums and degraded
WINDOWS = 600  # of the corpus, drawn once: the teacher reads each of them once
BATCH = 6_000  # frames of a batch, padding included: a minute
WARMUP = 50  # steps
# What reads the averaged cells is new; the transformer and the heads only adapt to it.
NEW, KEPT = 2e-3, 3e-4  # learning rates
NEW_PARTS = ("convs.", "norms.", "project.")
CLIP = 1.0  # norm of the gradient
TASKS = 0.1  # weight of the encoder's own losses, as in the diffusion's
log = logging.getLogger(__name__)


class FullResolutionEncoder(GlobalAudioEncoder):
    """The encoder of earlier releases."""

    average = (1, 1)
    strides = ((4, 2), (2, 2), (4, 2))
    paddings = ((2, 1), (1, 1), (0, 1))


@dataclass(frozen=True)
class Batch:
    """Windows of similar length, what is known of them, and what the teacher says of them."""

    log_mel: Tensor  # (B, 1, M, T) float16, unknown bins marked
    original: Tensor  # (B, T, 64), means of four mel bins: all that tokens are asked for
    profile: Tensor  # (B, 12), NaN where there is none
    lengths: Tensor  # (B,) frames
    pooling: int
    features: Tensor  # (B, N, D), before the transformer
    context: GlobalContext


def encoder_state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a model's state dict, in float32.

    Earlier releases called ``convs`` by another name, so that neither loads the other's weights.
    """
    return {
        name.removeprefix(ENCODER_PREFIX).replace("convolutions.", "convs."): value.float()
        for name, value in weights.items()
        if name.startswith(ENCODER_PREFIX)
    }


def draw_windows(
    corpus: Corpus, recipe: TrainingConfig, count: int, generator: torch.Generator
) -> list[Window]:
    """Windows as the encoder's stage draws them, without chunks, reduced to what is needed."""
    draws = Draws(whole_frames(recipe.encoder.seconds), 0, recipe.encoder_changing_bandwidth)
    drawer, windows = WindowDrawer(recipe, draws), []
    short, long = (1 / seconds for seconds in recipe.context_seconds)
    for _ in range(count):
        chance = float(torch.rand((), generator=generator))
        seconds = 1 / (short + chance * (long - short))  # the density falls with its square
        window = drawer.draw(corpus, whole_frames(seconds), generator)
        bands = F.adaptive_avg_pool1d(window.original[None], TOKEN)[0]
        windows.append(replace(window, context=window.context.half(), original=bands))
    return windows


def batches(
    windows: Sequence[Window],
    teacher: GlobalAudioEncoder,
    pooling: tuple[int, int],
    generator: torch.Generator,
) -> list[Batch]:
    """Windows of similar length together, at most ``BATCH`` frames, read by the teacher."""
    groups: list[list[Window]] = [[]]
    for window in sorted(windows, key=lambda w: w.length):
        if groups[-1] and window.length * (len(groups[-1]) + 1) > BATCH:
            groups.append([])
        groups[-1].append(window)
    made = []
    for group in groups:
        log_mel = padded([w.context for w in group]).transpose(1, 2)[:, None].contiguous()
        lengths = torch.tensor([w.length for w in group])
        place = float(torch.rand((), generator=generator))
        factor = round(pooling[0] * (pooling[1] / pooling[0]) ** place)
        with torch.no_grad():
            features, context = read(teacher, log_mel, lengths, factor)
        original = padded([w.original for w in group])
        profile = torch.stack([w.profile for w in group])
        made.append(Batch(log_mel, original, profile, lengths, factor, features, context))
    return made


def read(
    encoder: GlobalAudioEncoder, log_mel: Tensor, lengths: Tensor, pooling: int
) -> tuple[Tensor, GlobalContext]:
    """The features (B, N, D) of a batch, before the transformer, and its context."""
    kept: list[Tensor] = []
    hook = encoder.project.register_forward_hook(lambda *call: kept.append(call[2]))
    context = encoder(log_mel.float(), lengths, pooling)
    hook.remove()
    return kept[0], context


def losses(student: GlobalAudioEncoder, batch: Batch) -> dict[str, Tensor]:
    """The differences from the teacher, as shares of its variance, and the encoder's own losses."""
    features, context = read(student, batch.log_mel, batch.lengths, batch.pooling)
    wanted = batch.context
    heard = torch.arange(features.shape[1]) * STRIDE < batch.lengths[:, None]
    valid = torch.ones(context.tokens.shape[:2], dtype=torch.bool)
    valid = valid if context.valid is None else context.valid
    return {
        "features": _share(features[heard], batch.features[heard]),
        "tokens": _share(context.tokens[valid], wanted.tokens[valid]),
        "vector": _share(context.vector, wanted.vector),
        "cepstra": token_loss(context, batch.original, batch.lengths),
        "profile": likelihood_loss(context.vector, batch.profile),
    }


def _share(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean square difference of (N, D) over the mean square of what is wanted."""
    return (given - wanted).square().mean() / wanted.square().mean()


def distil(
    student: GlobalAudioEncoder, drawn: Sequence[Batch], epochs: int, generator: torch.Generator
) -> Iterator[dict[str, float]]:
    """Train the student in place; yields the mean losses of every epoch."""
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in student.named_parameters():
        parts[name.startswith(NEW_PARTS)].append(parameter)
    groups = [{"params": parts[True], "lr": NEW}, {"params": parts[False], "lr": KEPT}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    steps = epochs * len(drawn)

    def rate(step: int) -> float:  # a linear rise, then half a cosine
        return min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in range(epochs):
        sums: dict[str, float] = {}
        for place in torch.randperm(len(drawn), generator=generator).tolist():
            terms = losses(student, drawn[place])
            own = terms["cepstra"] + terms["profile"]
            loss = terms["features"] + terms["tokens"] + terms["vector"] + TASKS * own
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach()) / len(drawn)
        yield sums


def save(student: GlobalAudioEncoder, teacher: Path, path: Path) -> None:
    """Write the teacher's model with this encoder, in half precision."""
    others = {k: v for k, v in load_file(teacher).items() if not k.startswith(ENCODER_PREFIX)}
    state = student.state_dict()
    encoder = {ENCODER_PREFIX + k: v.half().contiguous() for k, v in state.items()}
    save_file(others | encoder, path, metadata={"format": "pt"})


def main() -> None:
    """Prepare the corpus, distil, and keep the result after every epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--out", type=Path, required=True, help="for the corpus and the result")
    parser.add_argument("--teacher", type=Path, required=True, help="the old model's weights")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare the corpus")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = replace(training_config(load_config("lily-mini")["training"]), variants=VARIANTS)
    corpus = _prepared(options, recipe)
    config = GlobalEncoderConfig(profile=True)
    teacher, student = (k(config, TOKEN) for k in (FullResolutionEncoder, GlobalAudioEncoder))
    for encoder in (teacher, student):
        encoder.load_state_dict(encoder_state(load_file(options.teacher)))
    generator = seeded(options.seed, "distil")
    windows = draw_windows(corpus, recipe, WINDOWS, generator)
    drawn = batches(windows, teacher, recipe.pooling, generator)
    log.info("%d batches of %d windows", len(drawn), len(windows))
    for epoch, means in enumerate(distil(student, drawn, options.epochs, generator), 1):
        log.info("epoch %d: %s", epoch, " ".join(f"{k} {v:.4f}" for k, v in means.items()))
        save(student, options.teacher, options.out / "model.safetensors")


def _prepared(options: argparse.Namespace, recipe: TrainingConfig) -> Corpus:
    work = prepare(options.data, options.out, recipe, MelConfig(), World(), options.workers)
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value[0]


if __name__ == "__main__":
    main()
