"""Decide what Lily writes: 24-bit WAV or FLAC, or 32-bit float where 24 bits would clip.

A file appears under its name only when it is complete: samples go to a temporary file beside it,
renamed at a clean exit and deleted otherwise. The header keeps room for 64-bit sizes, so a WAV
that passes 4 GB becomes RF64 in place. Source: EBU Tech 3306 (RF64), WAVEFORMATEXTENSIBLE.
"""

import contextlib
import os
import struct
import uuid
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from lily.audio.flac import FlacFile
from lily.audio.sample_hash import SampleHash
from lily.audio.temp_files import hold
from lily.errors import InputError, LilyError

FULL_SCALE = 1 << 23  # 24-bit steps from 0 to 1.0
UNKNOWN_SIZE = (1 << 32) - 1  # what RF64 writes where the 32-bit size would be
LARGEST_RIFF = UNKNOWN_SIZE - 1  # bytes that a RIFF header can count
COPY_SAMPLES = 1 << 20  # samples rewritten at once when 24 bits turn out to be too few
# Speaker masks by number of channels: centre, stereo, 3.0, quad, 5.0, 5.1, 6.1, 7.1.
SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x13F, 8: 0x63F}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # what follows the format's number
ENDINGS = (".wav", ".flac")


class AudioWriter:
    """Write blocks (C, n) to `path`, a WAV file or by its ending a FLAC, whole or not at all.

    Use it in a `with` statement. Samples are rounded to 24 bits; at the first one that 24 bits
    cannot hold, what was written becomes a 32-bit float WAV, losslessly, and so does the rest: a
    FLAC's `path` ends in .wav from then on. After it, `subtype` is "PCM_24" or "FLOAT", `peak` the
    largest magnitude, `frames` the length. Raises InputError for an impossible rate, number of
    channels or folder, LilyError for samples that are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, channels: int) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.peak = 0.0
        self.frames = 0
        self.comment = ""  # ASCII, for the file's metadata; set it before the end
        self._hash = SampleHash()
        if channels not in SPEAKERS or sample_rate < 1:
            raise InputError(
                f"Cannot write {channels} channels at {sample_rate} Hz; give 1 to {len(SPEAKERS)} "
                "channels and a rate of at least 1 Hz."
            )
        self._open("PCM_24")

    def _open(self, subtype: str) -> None:
        name = f".{self.path.name}.{uuid.uuid4().hex[:8]}.part"
        self._temporary = self.path.with_name(name)
        try:
            self._raw: BufferedRandom = open(self._temporary, "x+b")  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"Cannot write into {self.path.parent} ({error.strerror}); give a folder that "
                "exists and that you may write to."
            ) from error
        hold(self._raw)  # while this process lives, nobody takes it for a leftover
        if self.path.suffix.lower() == ".flac":
            self._file: WavFile | FlacFile = FlacFile(self._raw, self.sample_rate, self.channels)
        else:
            self._file = WavFile(self._raw, self.sample_rate, self.channels, subtype)

    @property
    def subtype(self) -> str:
        """How samples are kept so far: "PCM_24" or "FLOAT"."""
        return self._file.subtype

    @property
    def sha256(self) -> str:
        """SHA-256 of the samples so far as the file holds them: float32, frame by frame."""
        return self._hash.hexdigest()

    def __enter__(self) -> "AudioWriter":
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
        """Append a block (C, n); returns it as the file holds it, rounded where it must be.

        Raises LilyError if a sample is not finite.
        """
        if block.dim() != 2 or block.shape[0] != self.channels:
            raise InputError(
                f"A block of shape {tuple(block.shape)} does not fit; give ({self.channels}, n)."
            )
        samples = block.detach().to("cpu", torch.float32).T.contiguous().numpy()  # (n, C)
        if not np.isfinite(samples).all():
            second = self.frames / self.sample_rate
            raise LilyError(f"The output after {second:.2f} s has samples that are not numbers.")
        if samples.size:
            self.peak = max(self.peak, float(np.abs(samples).max()))
        if self.subtype == "PCM_24":
            steps = np.rint(samples * np.float32(FULL_SCALE))
            if steps.size and (steps.max() >= FULL_SCALE or steps.min() < -FULL_SCALE):
                self._become_float()
            else:
                samples = steps / np.float32(FULL_SCALE) + np.float32(0)  # an integer has no -0
        self._file.append(samples)
        stored = torch.from_numpy(samples.T)
        self._hash.update(stored)
        self.frames += samples.shape[0]
        return stored

    def close(self) -> None:
        """Complete the file and give it its name; nothing happens a second time."""
        if self._raw.closed:
            return
        try:
            self._file.finish(self.comment)
            self._raw.close()
            os.replace(self._temporary, self.path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete what was written; the file named `path`, if any, is as it was."""
        if self._temporary.exists() or not self._raw.closed:
            with contextlib.suppress(OSError):  # a full disk fails once more on what is buffered
                self._file.abandon()
                self._raw.close()
            self._temporary.unlink(missing_ok=True)

    def _become_float(self) -> None:
        """Copy what was written into a float file: 24-bit integers are exact in float32."""
        old_file, old_raw, old_temporary = self._file, self._raw, self._temporary
        self.path = self.path.with_suffix(".wav") if isinstance(old_file, FlacFile) else self.path
        try:
            self._open("FLOAT")
            for samples in old_file.samples():
                self._file.append(samples)
        finally:
            old_file.abandon()
            old_raw.close()
            old_temporary.unlink(missing_ok=True)


class WavFile:
    """A WAV in the making, over an open file; past LARGEST_RIFF bytes its header is RF64's."""

    def __init__(self, file: BufferedRandom, sample_rate: int, channels: int, subtype: str) -> None:
        self.subtype = subtype
        self._file, self._sample_rate, self._channels = file, sample_rate, channels
        self._frames = 0
        self._file.write(self._header(0))

    def append(self, samples: np.ndarray) -> None:
        """Add samples (n, C) float32, which 24 bits hold exactly where that is the subtype."""
        if self.subtype == "PCM_24":
            # The three low bytes of each little-endian 32-bit integer.
            integers = (samples * np.float32(FULL_SCALE)).astype("<i4").view(np.uint8)
            self._file.write(integers.reshape(-1, 4)[:, :3].tobytes())
        else:
            self._file.write(samples.astype("<f4").tobytes())
        self._frames += samples.shape[0]

    def finish(self, comment: str) -> None:
        """Pad the samples, add the ASCII ``comment`` as LIST/INFO, and complete the header."""
        if self._data_bytes() % 2:
            self._file.write(b"\0")  # chunks are padded to even length
        info = _list_info(comment)
        self._file.write(info)
        self._file.seek(0)
        self._file.write(self._header(len(info)))

    def samples(self) -> Iterator[np.ndarray]:
        """Read back what 24 bits were appended, (n, C) float32; nothing can be added any more."""
        self._file.seek(len(self._header(0)))
        while data := self._file.read(3 * self._channels * (COPY_SAMPLES // self._channels)):
            integers = np.zeros((len(data) // 3, 4), np.uint8)
            integers[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            signed = integers.view("<i4")[:, 0] >> 8
            scaled = (signed / np.float32(FULL_SCALE)).astype(np.float32)
            yield scaled.reshape(-1, self._channels)

    def abandon(self) -> None:
        """Let go of the file: there is nothing to free."""

    def _sample_bytes(self) -> int:
        return 3 if self.subtype == "PCM_24" else 4

    def _data_bytes(self) -> int:
        return self._frames * self._channels * self._sample_bytes()

    def _header(self, following: int) -> bytes:
        """Lay out RIFF, room for 64-bit sizes, format, (frames,) and the data's size.

        ``following`` is how many bytes of other chunks come after the samples.
        """
        size, kind = self._sample_bytes(), PCM if self.subtype == "PCM_24" else FLOAT
        frame = self._channels * size
        extensible = self._channels > 2
        tag = EXTENSIBLE if extensible else kind
        rates = (self._sample_rate, self._sample_rate * frame, frame, size * 8)
        form = struct.pack("<HHIIHH", tag, self._channels, *rates)
        if extensible:
            extra = struct.pack("<HHIH", 22, size * 8, SPEAKERS[self._channels], kind)
            form += extra + GUID_TAIL
        body = b"fmt " + struct.pack("<I", len(form)) + form
        if kind == FLOAT:
            body += b"fact" + struct.pack("<II", 4, min(self._frames, UNKNOWN_SIZE))
        data = self._data_bytes()
        # "WAVE", the 36 bytes of JUNK or ds64, the chunks, "data" and its size, the padded samples.
        riff = 4 + 36 + len(body) + 8 + data + data % 2 + following
        if riff <= LARGEST_RIFF:
            head = b"RIFF" + struct.pack("<I", riff) + b"WAVE" + b"JUNK" + struct.pack("<I", 28)
            return head + bytes(28) + body + b"data" + struct.pack("<I", data)
        sizes = struct.pack("<QQQI", riff, data, self._frames, 0)
        head = b"RF64" + struct.pack("<I", UNKNOWN_SIZE) + b"WAVE" + b"ds64" + struct.pack("<I", 28)
        return head + sizes + body + b"data" + struct.pack("<I", UNKNOWN_SIZE)


def _list_info(comment: str) -> bytes:
    """A LIST/INFO chunk with one comment (ICMT), or nothing for an empty one."""
    if not comment:
        return b""
    text = comment.encode("ascii", "replace") + b"\0"
    text += b"\0" * (len(text) % 2)
    content = b"INFO" + b"ICMT" + struct.pack("<I", len(text)) + text
    return b"LIST" + struct.pack("<I", len(content)) + content
