"""Run the recipe: decode, press albums, then the stages in order; each found finished is loaded.

Told as events, so that the command line draws the progress bar and tests read the losses.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lily.checkpoints.model_folder import load_model, save_adapter_folder, save_model_folder
from lily.config.presets import Config, MelConfig, mel_config
from lily.config.training import STAGES, TrainingConfig, training_config
from lily.model.latent_diffusion import LatentDiffusion
from lily.training.chunks import encode_corpus
from lily.training.corpus import Corpus
from lily.training.dataset import Album, decode, plan_albums, press
from lily.training.loop import Loop, Progress, read_checkpoint, set_weights
from lily.training.parallel import World
from lily.training.recordings import Recording, find_recordings, split_by_source
from lily.training.request import check_run
from lily.training.stages import KINDS

log = logging.getLogger(__name__)
PREPARATION = 2  # counts up where the same settings give other arrays


def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    resume: bool = False,
    device: torch.device | None = None,
    workers: int | None = None,
    base: str | None = None,
    adapter: bool = False,
    precision: torch.dtype = torch.float32,
) -> Iterator[Progress]:
    """Train the stages on a folder of audio and export a model folder to ``out/model``.

    Finished stages found in ``out`` are loaded, unfinished ones continue under ``resume``; without
    it a folder with checkpoints is refused. ``workers`` processes prepare the arrays (default: one
    a core). ``base`` names a model (preset, folder or Hub id) to begin from: ``config`` is then
    that model's, its weights on this machine. ``adapter`` trains that model's encoder alone, and
    exports what lies on top of it. ``precision`` bfloat16 computes the networks in it, weights,
    gradients and moving averages staying float32. Raises InputError, TrainingError and
    WeightsError.
    """
    stages = ("encoder",) if adapter else stages
    check_run(config, data, out, stages, resume=resume, base=base)
    recipe, config = training_config(config["training"]), with_profile(config)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = World.join(device)
    workers = workers or os.cpu_count() or 1
    if recipe.carriers is None:  # another kind of vocoder has none
        stages = tuple(name for name in stages if name != "carriers")
    corpus, held_out = yield from prepare(data, out, recipe, _mel(config), world, workers)

    if base is None:
        model = _build(config, recipe.seed).to(device).eval()
    else:
        model = load_model(config, device)
    for name in STAGES:
        if name not in stages:
            if not adapter:  # the layers below an adapter are the base's
                _load_finished(model, out / f"{name}.pt")
            continue
        if name in ("diffusion", "finish", "encoder"):
            # A base's own latents keep their scale; another autoencoder's have another.
            new_latents = base is None or "autoencoder" in stages
            set_scale = name == "diffusion" and new_latents
            yield from _encoded(model, corpus, device, set_scale, world)
            if held_out:
                yield from _encoded(model, held_out, device, False, world)
        loop = Loop(name, KINDS[name](model, recipe, device), out, recipe.seed, world, precision)
        yield from loop.run(corpus, held_out, resume)
    if world.is_first:  # only now: half of the stages make no model
        if adapter and base is not None:
            save_adapter_folder(model, config, out / "model", base, dtype=torch.float16)
        else:
            save_model_folder(model, config, out / "model", dtype=torch.float16)
    yield Progress("export", 1, 1, {})


def with_profile(config: Config) -> Config:
    """The configuration of a model whose encoder is trained now: it marks unknown bins, and its
    vector holds the profile. Configurations without an encoder are returned as they are."""
    params = config["model"]["params"]
    unet = params["unet_config"]["params"]
    if not unet.get("use_global_encoder"):
        return config
    encoder = {**unet.get("global_encoder", {}), "profile": True}
    unet_config = {**params["unet_config"], "params": {**unet, "global_encoder": encoder}}
    return {
        **config,
        "model": {**config["model"], "params": {**params, "unet_config": unet_config}},
    }


def prepare(
    data: Path, out: Path, recipe: TrainingConfig, mel: MelConfig, world: World, workers: int
) -> Generator[Progress, None, tuple[Corpus, Corpus | None]]:
    """Split, decode and press what the cache in ``out`` lacks; training and held-out corpus."""
    recordings = find_recordings(data)
    training, validation = split_by_source(
        recordings, recipe.validation_fraction, recipe.seed, recipe.validation_sources
    )
    cache = out / f"cache-{_fingerprint(recipe, mel)}"
    if world.is_first:
        out.mkdir(parents=True, exist_ok=True)
        _write_split(out / "split.json", data, training, validation)
        for done in decode(recordings, cache, workers):
            yield Progress("decode", done, len(recordings), {})
        albums = [
            *_albums(training, cache, recipe, recipe.variants),
            *_albums(validation, cache, recipe, 1),
        ]
        for done in press(albums, cache, recipe, mel, workers):
            yield Progress("press", done, len(albums), {})
    world.wait()
    corpus = Corpus(cache, training, _albums(training, cache, recipe, recipe.variants))
    held_out = None
    if any((cache / f"{r.key}.json").is_file() for r in validation):
        held_out = Corpus(cache, validation, _albums(validation, cache, recipe, 1))
    for name, part in (("training on", corpus), ("holding out", held_out)):
        if part:
            minutes = sum(part.lengths) / mel.sample_rate / 60
            sources = len({r.source for r in part.recordings})
            recordings_count = len(part.recordings)
            log.info(
                "%s %d recordings of %d sources, %.0f minutes",
                name,
                recordings_count,
                sources,
                minutes,
            )
    return corpus, held_out


def _albums(
    recordings: Sequence[Recording], cache: Path, recipe: TrainingConfig, variants: int
) -> list[Album]:
    seconds = {}
    for recording in recordings:
        marker = cache / f"{recording.key}.json"
        if marker.is_file():
            seconds[recording.key] = json.loads(marker.read_text())["samples"] / 48_000
    return [
        album
        for variant in range(variants)
        for album in plan_albums(
            recordings, seconds, variant, recipe.seed, recipe.album_seconds, recipe.mixed
        )
    ]


def _encoded(
    model: LatentDiffusion, corpus: Corpus, device: torch.device, set_scale: bool, world: World
) -> Iterator[Progress]:
    """Encode once; the others find it done, and learn the scale from the same arrays."""
    if not world.is_first:
        world.wait()
    for done in encode_corpus(model, corpus, device, set_scale=set_scale):
        yield Progress("encode", done, len(corpus.albums), {})
    if world.is_first:
        world.wait()


def _fingerprint(recipe: TrainingConfig, mel: MelConfig) -> str:
    """What the prepared arrays depend on besides the audio: other settings, another folder."""
    facts = (
        PREPARATION,
        recipe.seed,
        recipe.album_seconds,
        recipe.cutoff_hz,
        recipe.codecs,
        recipe.mixed,
        recipe.equalised,
        recipe.own_bandwidth,
        asdict(mel),
    )
    return hashlib.blake2b(repr(facts).encode(), digest_size=4).hexdigest()


def _mel(config: Config) -> MelConfig:
    return mel_config(config.get("preprocessing", {}))


def _build(config: Config, seed: int) -> LatentDiffusion:
    """A model whose initial weights follow from the seed; the caller's random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LatentDiffusion(**config["model"]["params"])


def _write_split(path: Path, data: Path, training: list[Any], validation: list[Any]) -> None:
    split = {
        name: sorted(str(r.path.relative_to(data)) for r in part)
        for name, part in (("training", training), ("validation", validation))
    }
    split["validation_sources"] = sorted({r.source for r in validation})
    path.write_text(json.dumps(split, indent=1))


def _load_finished(model: LatentDiffusion, path: Path) -> None:
    """Take the averaged weights of a stage's checkpoint, if it was trained."""
    if path.is_file():
        set_weights(model, read_checkpoint(path)["ema"])
