"""Write audio files: 24-bit WAV or FLAC, or 32-bit float WAV where 24 bits would clip.

libsndfile writes the samples. The number of frames is known before the first one, so a WAV that may
pass 4 GB is an RF64 from the start. A file appears under its name only when it is complete
(``lily.audio.temp_files``). Source: EBU Tech 3306 (RF64), WAVEFORMATEXTENSIBLE (speaker masks).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import torch
from torch import Tensor

from lily.audio.flac_tags import copy_with_tags
from lily.audio.id3 import id3_tag
from lily.audio.riff import complete_header
from lily.audio.sample_hash import SampleHash
from lily.audio.tags import Tags
from lily.audio.temp_files import FileGroup
from lily.errors import InputError, LilyError

FULL_SCALE = 1 << 23  # 24-bit steps from 0 to 1.0
FULL_SCALE_16 = 1 << 15
SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
LARGEST_RIFF = (1 << 32) - (1 << 26)  # bytes of samples: 4 GB less 64 MB for header and metadata
COPY_FRAMES = 1 << 16  # frames copied at once when 24 bits turn out to be too few
# Speaker masks by number of channels: centre, stereo, 3.0, quad, 5.0, 5.1, 6.1, 7.1.
SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x13F, 8: 0x63F}
# Of a FLAC; readers do not agree on what more than two channels are without it.
MASK_TAG = "waveformatextensible_channel_mask"
# Tags that a WAV can hold as LIST/INFO; an "id3 " chunk holds others, and a cover.
INFO_TAGS = ("title", "artist", "album", "comment", "date", "tracknumber", "genre", "copyright")


class AudioWriter:
    """Write blocks (C, n) to `path`, a WAV or by its ending a FLAC file, completely or not at all.

    Use it in a `with` statement. Samples are rounded to 24 bits; at the first one that 24 bits
    cannot hold, what was written becomes a 32-bit float WAV, losslessly, and so does the rest: a
    FLAC's `path` ends in .wav from then on. At most `frames` may be written; fewer are allowed.
    With `files`, the file gets its name together with the others of that group. `speakers` is a
    WAVE speaker mask; by default the usual one for the number of channels. `tags` are written as
    far as the format carries them: a WAV everything, a FLAC text and cover. A WAV may have another
    `subtype`: "FLOAT" from the start, or "PCM_16" for samples that are rounded to 16 bits already.

    Attributes: `subtype` (of libsndfile), `peak` (largest magnitude), `frames` (written so
    far). Raises InputError for an
    impossible rate, number of channels or folder, and for a path that exists; LilyError for samples
    that are not finite; OSError if the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        *,
        frames: int,
        files: FileGroup | None = None,
        speakers: int | None = None,
        tags: Tags | None = None,
        subtype: str = "PCM_24",
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.peak = 0.0
        self.frames = 0
        self._tags = tags or Tags()
        self._announced = frames
        self._files = FileGroup() if files is None else files
        self._names_itself = files is None
        self._hash = SampleHash()
        if channels not in SPEAKERS or sample_rate < 1:
            raise InputError(
                f"Cannot write {channels} channels at {sample_rate} Hz; give 1 to {len(SPEAKERS)} "
                "channels and a rate of at least 1 Hz."
            )
        self._speakers = SPEAKERS[channels] if speakers is None else speakers
        self._open(subtype)

    def _open(self, subtype: str) -> None:
        self.subtype = subtype
        self._new = self._files.create(self.path)
        self._sound = soundfile.SoundFile(
            _native(self._new.temporary),
            "w",
            self.sample_rate,
            self.channels,
            subtype,
            format=self._format(),
        )

    def _format(self) -> str:
        """The container, as libsndfile calls it."""
        if self.path.suffix.lower() == ".flac":
            return "FLAC"
        if self._announced * self.channels * SAMPLE_BYTES[self.subtype] > LARGEST_RIFF:
            return "RF64"
        usual = self.channels <= 2 and self._speakers == SPEAKERS[self.channels]
        return "WAV" if usual else "WAVEX"

    @property
    def temporary(self) -> Path:
        """Where the samples lie until the file gets its name; another file once it is float."""
        return self._new.temporary

    @property
    def sha256(self) -> str:
        """SHA-256 of the samples so far as the file holds them: float32, frame by frame."""
        return self._hash.hexdigest()

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, block: Tensor) -> Tensor:
        """Append a block (C, n); returns it as the file holds it, rounded where it must be."""
        if block.dim() != 2 or block.shape[0] != self.channels:
            raise InputError(
                f"A block of shape {tuple(block.shape)} does not fit; give ({self.channels}, n)."
            )
        samples = block.detach().to("cpu", torch.float32).T.contiguous().numpy()  # (n, C)
        if not np.isfinite(samples).all():
            second = self.frames / self.sample_rate
            raise LilyError(f"The output after {second:.2f} s has samples that are not numbers.")
        if self.frames + len(samples) > self._announced:
            raise LilyError(
                f"{self.path.name} was announced with {self._announced} frames and gets "
                f"{self.frames + len(samples)}; announce them all."
            )
        if samples.size:
            self.peak = max(self.peak, float(np.abs(samples).max()))
        if self.subtype == "PCM_24":
            steps = np.rint(samples * np.float32(FULL_SCALE))
            if steps.size and (steps.max() >= FULL_SCALE or steps.min() < -FULL_SCALE):
                self._become_float()
            else:
                samples = steps / np.float32(FULL_SCALE) + np.float32(0)  # an integer has no -0
        self._append(samples)
        stored = torch.from_numpy(samples.T)
        self._hash.update(stored)
        self.frames += len(samples)
        return stored

    def close(self) -> None:
        """Complete the file, and name it unless its group will; a second call does nothing."""
        if self._sound.closed:
            return
        try:
            self._finish()
            if self._names_itself:
                self._files.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete what was written."""
        self._sound.close()
        if self._names_itself:
            self._files.discard()

    def _append(self, samples: np.ndarray) -> None:
        """Add samples (n, C) float32, which 24 bits hold exactly where that is the subtype."""
        if self.subtype == "PCM_24":
            samples = (samples * np.float32(FULL_SCALE)).astype(np.int32) << 8
        elif self.subtype == "PCM_16":
            samples = (samples * np.float32(FULL_SCALE_16)).astype(np.int16)
        try:
            self._sound.write(samples)
        except (AssertionError, soundfile.LibsndfileError) as error:  # a short write
            raise _disk_full(self.path) from error

    def _finish(self) -> None:
        """Write the end of the file and its metadata, and check that all of it is there."""
        is_flac = self._sound.format == "FLAC"
        if is_flac and not self.frames:
            raise LilyError(f"{self.path.name} has no samples; a FLAC file needs at least one.")
        if not is_flac:
            for name in INFO_TAGS:
                if self._tags.text.get(name):
                    setattr(self._sound, name, self._tags.text[name])
        self._sound.close()
        if not self._is_whole():
            raise _disk_full(self.path)
        if is_flac:
            self._tag_flac()
        else:
            self._tag_wav()

    def _tag_wav(self) -> None:
        """Append what libsndfile does not write."""
        tags, more = self._tags, list(self._tags.chunks)
        if tags.cover or not set(tags.text) <= set(INFO_TAGS):
            more.append((b"id3 ", id3_tag(tags)))
        complete_header(self._new.temporary, self._speakers, more)

    def _tag_flac(self) -> None:
        """Copy the file with its tags, which precede the samples."""
        text = dict(self._tags.text)
        if self.channels > 2 or self._speakers != SPEAKERS[self.channels]:
            text[MASK_TAG] = f"0x{self._speakers:04X}"
        if not text and not self._tags.cover:
            return
        old, self._new = self._new, self._files.create(self.path)
        with old.temporary.open("rb") as source, self._new.temporary.open("wb") as target:
            copy_with_tags(source, target, Tags(text, cover=self._tags.cover))
        self._files.drop(old)

    def _is_whole(self) -> bool:
        """Whether the closed file is complete; libsndfile hides a failure of its last write."""
        try:
            with soundfile.SoundFile(_native(self._new.temporary)) as written:
                written.seek(max(0, self.frames - 1))
                return written.frames == self.frames and len(written.read()) == min(1, self.frames)
        except soundfile.LibsndfileError:
            return False

    def _become_float(self) -> None:
        """Copy what was written into a float file: 24-bit integers are exact in float32."""
        old = self._new
        self._sound.close()
        if self.path.suffix.lower() == ".flac":
            self.path = self.path.with_suffix(".wav")
        self._open("FLOAT")
        if self.frames:
            with soundfile.SoundFile(_native(old.temporary)) as written:
                for samples in written.blocks(COPY_FRAMES, dtype="float32", always_2d=True):
                    self._append(samples)
        self._files.drop(old)


def write_audio(path: str | os.PathLike[str], samples: Tensor, sample_rate: int) -> AudioWriter:
    """Write a whole signal (C, T); returns the closed writer, for its path, subtype and peak."""
    channels, frames = samples.shape
    with AudioWriter(path, sample_rate, channels, frames=frames) as writer:
        writer.write(samples)
    return writer


def _native(path: Path) -> str | bytes:
    """A path as soundfile takes it; it cannot encode a name that is not UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _disk_full(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
