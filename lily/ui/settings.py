"""Decide the limits and addresses of the page: one place, each with an environment variable.

Durations are in seconds, sizes in megabytes (10^6 bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lily.checkpoints.resolve import BUNDLED
from lily.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """What the page accepts, how long it keeps files, and where it listens."""

    max_seconds: float = 3600.0  # one hour: what the tests of the engine cover
    max_mb: int = 1200  # an hour of 24-bit stereo at 48 kHz is 1037 MB
    max_run_seconds: float = 7200.0  # a run's time limit; what is finished by then is kept
    keep_seconds: float = 21_600.0  # uploads and results, from their last use; longer than a run
    cache_mb: int = 20_000  # all of them; comparing an hour of stereo makes 6,300 MB
    queue_places: int = 40  # visitors who may wait; the next one sees that the page is full
    model: str = BUNDLED  # the default model: a preset, a model folder or a Hub id
    share: bool = False  # whether a result may be shown to others by a link
    space: str = ""  # the Hugging Face Space that this is, as OWNER/NAME
    server_name: str | None = None  # None: Gradio's own default, 127.0.0.1
    port: int | None = None  # None: the first free one from 7860

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read LILY_MODEL, LILY_SHARE, the limits (LILY_ and a field's name) and addresses.

        Raises ConfigError.
        """
        port = environment.get("PORT") or environment.get("GRADIO_SERVER_PORT")
        return cls(
            max_seconds=_positive(environment, "LILY_MAX_SECONDS", cls.max_seconds),
            max_mb=_whole(environment, "LILY_MAX_MB", cls.max_mb),
            max_run_seconds=_positive(environment, "LILY_MAX_RUN_SECONDS", cls.max_run_seconds),
            keep_seconds=_positive(environment, "LILY_KEEP_SECONDS", cls.keep_seconds),
            cache_mb=_whole(environment, "LILY_CACHE_MB", cls.cache_mb),
            queue_places=_whole(environment, "LILY_QUEUE_PLACES", cls.queue_places),
            model=environment.get("LILY_MODEL", "").strip() or cls.model,
            share=_flag(environment, "LILY_SHARE"),
            space=environment.get("SPACE_ID", "").strip(),
            server_name=environment.get("GRADIO_SERVER_NAME") or None,
            port=_port(port) if port else None,
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} is {text!r}; give a positive number or leave it unset.")
    return value


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip()
    if text not in ("", "0", "1"):
        raise ConfigError(f"{name} is {text!r}; give 1, 0 or leave it unset.")
    return text == "1"


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    return max(1, round(_positive(environment, name, default)))


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ConfigError(f"The port is {text!r}; give a number from 1 to 65535.")
    return int(text)
