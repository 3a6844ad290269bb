"""The metadata of an output: a JSON file beside it with its settings, hashes and measurements.

It holds no name, path or time, so the same run writes the same metadata. Nothing in it is signed:
``lily verify --against`` measures the audio anew and takes no figure from here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from lily.audio.resample import resampled_length
from lily.certify.check import Check
from lily.certify.output_meter import Measurements, checks
from lily.errors import InputError

FORMAT = "lily-output/1"
LARGEST = 1 << 26  # bytes of a metadata file: joins of 500 hours take 8 MB


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Settings(_Model):
    """How the output was made."""

    model: str
    weights_sha256: tuple[str, ...]  # of each safetensors file, a base before its adapter
    encoder: bool
    steps: int
    sampler: str
    guidance: float
    seed: int
    takes: tuple[tuple[float, int], ...] = ()  # (second, seed) of chunks with their own seed
    profile: str
    context_sha256: tuple[str, ...] = ()  # of borrowed recordings, as far as they were read
    wall_hz: float | None = None  # where the generated highs end
    brightness_db: float | None = None  # by which they were made louder
    temporal_shape: bool | None = None  # attacks follow the recording's; None: not known
    device: str
    precision: str
    threads: int


class InputFile(_Model):
    """The recording."""

    sha256: str  # of sample rate, channels and decoded samples: lily/audio/sample_hash.py
    sample_rate: int
    channels: int
    samples: int


class OutputFile(_Model):
    """The output as its file holds it."""

    sha256: str  # of the samples as float32, frame by frame
    sample_rate: int
    channels: int
    samples: int
    subtype: str


class OutputMetadata(_Model):
    """Everything that is recorded of one output."""

    format: Literal["lily-output/1"] = FORMAT
    versions: dict[str, str]
    settings: Settings
    # (start in seconds, Hz), the lowest of any channel
    cutoffs: tuple[tuple[float, PositiveFloat], ...] = Field(min_length=1)
    channel_cutoffs: tuple[tuple[tuple[float, float], ...], ...] = ()  # of each, where they differ
    cutoff_source: Literal["detected", "given", "profile"]
    generated: bool  # False: the band was full already, or silent, and the recording was copied
    joins: tuple[float, ...]  # seconds, centres of the cross-fades between chunks
    fade: float  # seconds, their length
    input: InputFile
    output: OutputFile
    measurements: Measurements

    def checks(self) -> tuple[Check, ...]:
        """The measurements, held to their limits."""
        recorded, made = self.input, self.output
        expected = resampled_length(recorded.samples, recorded.sample_rate, made.sample_rate)
        lowest_hz = min(hz for _, hz in self.cutoffs) if self.generated else math.inf
        period = made.sample_rate / lowest_hz
        return checks(self.measurements, (expected, made.samples), made.subtype, period)


def read_metadata(path: Path) -> OutputMetadata:
    """Read a metadata file; raises InputError if it cannot be read or lacks a field."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(
                f"{path.name} is larger than the metadata of any output; give the file that Lily "
                "wrote."
            )
        return OutputMetadata.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path.name} is not the metadata of an output ({place or 'JSON'}: {first['msg']}); "
            "give the file that Lily wrote."
        ) from error
