"""Resolve a model's name: a preset, a YAML file, a model folder or ``owner/name`` on the Hub.

``resolve_config`` returns its configuration, ``with_weights`` brings its weights to this machine:
downloaded, verified and, if they are AudioSR's own checkpoint, converted once into the assets of
huggingface_hub's cache.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from lily.checkpoints.events import Notify, Preparing, ignore
from lily.checkpoints.folder_config import CONFIG, WEIGHTS, read_folder_config
from lily.config.model_id import HubId, WeightsConfig, hub_id
from lily.config.presets import Config, load_config, preset_names
from lily.config.sections import build
from lily.errors import HubUnreachable, WeightsError

BUNDLED = "lily-mini"  # it ships with Lily and runs with no download
UNTRAINED = "This model's encoder is untrained: on and off give the same samples."


def resolve_config(
    name: str | None = None, weights: str | None = None, notify: Notify = ignore
) -> Config:
    """The configuration of a preset, or of any model by its name, folder or Hub id (``weights``).

    Of a model on the Hub only ``config.json`` is downloaded. Raises ConfigError and WeightsError.
    """
    if weights is None:
        return load_config(name or BUNDLED)
    if _is_folder(weights):
        return read_folder_config(Path(weights))
    if weights in preset_names():
        return load_config(weights)
    model = hub_id(weights)
    if model is None:
        raise WeightsError(
            f"{weights} is no folder, no preset ({', '.join(preset_names())}) and no owner/name on "
            "the Hub; give one of these."
        )
    from lily.checkpoints.hub import (
        fetch,  # here and below: huggingface_hub is imported only where it is needed
    )

    folder, commit = fetch(model, [CONFIG], notify)
    return {**read_folder_config(folder), "weights": {"repo": model.repo, "revision": commit}}


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # longer than any path
        return False


def with_weights(config: Config, notify: Notify = ignore) -> Config:
    """The configuration with ``weights`` naming a folder on this machine, downloaded if necessary.

    Raises WeightsError, and HubUnreachable if the Hub is needed and does not answer.
    """
    section = config.get("weights")
    if section is None:
        raise WeightsError(f"Preset {config.get('name')!r} names no weights; give --weights.")
    source = build(WeightsConfig, section, "weights")
    here = {"folder": source.folder or str(_folder(config, source, notify))}
    if "base_model" in config:
        here["base"] = source.base or _base(str(config["base_model"]), notify)
    return {**config, "weights": here}


def bundled_folder(name: str) -> Path:
    """The folder of a model that ships with Lily."""
    return Path(__file__).resolve().parents[1] / "assets" / name


def encoder_note(config: Config) -> str:
    """Why a model's encoder has no effect, in a sentence; empty if it has, or is not known yet.

    Reads files of this machine only: a model on the Hub is not fetched for it.
    """
    if not config["model"]["params"]["unet_config"]["params"].get("use_global_encoder"):
        return "This model has no global encoder."
    source = build(WeightsConfig, config.get("weights", {}), "weights")
    if source.repo is not None:
        return ""
    # An adapter holds every tensor of its encoder, so its base is not asked for.
    folder = source.folder or bundled_folder(str(source.bundled))
    from lily.checkpoints.model_folder import encoder_is_trained  # torch

    return "" if encoder_is_trained({**config, "weights": {"folder": str(folder)}}) else UNTRAINED


def _folder(config: Config, source: WeightsConfig, notify: Notify) -> Path:
    if source.bundled is not None:
        return bundled_folder(source.bundled)
    from lily.checkpoints.hub import fetch, record_commit

    model = HubId(str(source.repo), source.revision)
    name = str(config.get("name", "model"))
    if source.checkpoint is not None:
        return _converted(config, name, model, source.checkpoint, notify)
    folder, commit = fetch(model, [CONFIG, WEIGHTS], notify)
    record_commit(name, model, commit, notify)
    return folder


def _base(name: str, notify: Notify) -> str:
    """The folder of an adapter's base."""
    config = resolve_config(weights=name, notify=notify)
    if "base_model" in config:
        raise WeightsError(f"base_model {name} is itself an adapter; name the model it lies on.")
    return with_weights(config, notify)["weights"]["folder"]


def _converted(config: Config, name: str, model: HubId, checkpoint: str, notify: Notify) -> Path:
    """The model folder converted from a checkpoint, cached by the checkpoint's SHA-256."""
    from lily.checkpoints.hub import assets, fetch, listing, notify_cached, record_commit

    stem = PurePosixPath(checkpoint).stem
    try:
        found = listing(model)
    except HubUnreachable:
        made = sorted(assets(model).glob(f"{stem}-*/{CONFIG}"), key=lambda p: p.stat().st_mtime)
        if not made:
            raise
        notify_cached(name, notify)
        return made[-1].parent
    found.require(checkpoint)
    record_commit(name, model, found.commit, notify)
    folder = assets(model) / f"{stem}-{found.sha256.get(checkpoint, found.commit)[:16]}"
    if not (folder / CONFIG).is_file():
        root, _ = fetch(model, [checkpoint], notify)
        notify(Preparing(f"Converting {checkpoint}, once"))
        _convert(root / checkpoint, folder, config)
    return folder


def _convert(checkpoint: Path, folder: Path, config: Config) -> None:
    """Convert AudioSR's checkpoint into a model folder, completely or not at all."""
    from lily.checkpoints.convert_audiosr import DTYPES, examine, write_folder

    partial = folder.with_name(f"{folder.name}.part{os.getpid()}")
    try:
        opened, account = examine(checkpoint, config)
        write_folder(opened, account, config, partial, DTYPES["fp32"])
        try:
            os.replace(partial, folder)
        except OSError:
            if not (folder / CONFIG).is_file():  # another process has converted it meanwhile
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
