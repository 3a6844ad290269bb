"""Decide which models the page offers, and make one ready to run before another is dropped."""

from __future__ import annotations

from lily.checkpoints.events import Notify
from lily.checkpoints.model_folder import check_weights
from lily.checkpoints.resolve import BUNDLED, resolve_config, with_weights
from lily.config.presets import Config, load_config, preset_names
from lily.errors import LilyError


def offered(default: str) -> tuple[dict[str, Config], str]:
    """Every preset and ``default``, which comes first, by name; and a notice, mostly empty.

    ``default`` is a preset's name, a model folder or a Hub id. If it cannot be had, the bundled
    model comes first and the notice says why.
    """
    models = {name: load_config(name) for name in preset_names()}
    first, notice = default, ""
    if default not in models:
        try:
            models[default] = resolve_config(weights=default)
        except LilyError as error:
            first = BUNDLED
            notice = f"{error} Until the next start, {BUNDLED}, the bundled model, serves instead."
    return dict(sorted(models.items(), key=lambda item: (item[0] != first, item[0]))), notice


def made_ready(config: Config, notify: Notify) -> Config:
    """The configuration with its weights on this machine, every name and shape of them checked.

    Raises LilyError.
    """
    here = with_weights(config, notify)
    check_weights(here)
    return here
