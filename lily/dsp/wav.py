"""Decide what Lily writes: 24-bit WAV, or 32-bit float where 24 bits would clip, or not at all.

A file appears under its name only when it is complete: samples go to a temporary file beside it,
renamed at a clean exit and deleted otherwise. The header keeps room for 64-bit sizes, so a file
that passes 4 GB becomes RF64 in place. Source: EBU Tech 3306 (RF64), WAVEFORMATEXTENSIBLE.
"""

import contextlib
import os
import struct
import uuid
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from lily.dsp.leftovers import hold
from lily.errors import InputError, LilyError

FULL_SCALE = 1 << 23  # 24-bit steps from 0 to 1.0
UNKNOWN_SIZE = (1 << 32) - 1  # what RF64 writes where the 32-bit size would be
LARGEST_RIFF = UNKNOWN_SIZE - 1  # bytes that a RIFF header can count
COPY_SAMPLES = 1 << 20  # samples rewritten at once when 24 bits turn out to be too few
# Speaker masks by number of channels: centre, stereo, 3.0, quad, 5.0, 5.1, 6.1, 7.1.
SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x13F, 8: 0x63F}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # what follows the format's number


class AudioWriter:
    """Write blocks (C, n) to `path` as a WAV file, whole or not at all.

    Use it in a `with` statement. Samples are rounded to 24 bits; at the first one that 24 bits
    cannot hold, what was written becomes 32-bit float, losslessly, and so does the rest. After it,
    `subtype` is "PCM_24" or "FLOAT", `peak` the largest magnitude and `frames` the length.
    Raises InputError for an impossible rate, number of channels or folder, LilyError for samples
    that are not finite.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, channels: int) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.subtype = "PCM_24"
        self.peak = 0.0
        self.frames = 0
        if channels not in SPEAKERS or sample_rate < 1:
            raise InputError(
                f"Cannot write {channels} channels at {sample_rate} Hz; give 1 to {len(SPEAKERS)} "
                "channels and a rate of at least 1 Hz."
            )
        self._open()

    def _open(self) -> None:
        name = f".{self.path.name}.{uuid.uuid4().hex[:8]}.part"
        self._temporary = self.path.with_name(name)
        try:
            self._file: BufferedRandom = open(self._temporary, "x+b")  # noqa: SIM115
        except OSError as error:
            raise InputError(
                f"Cannot write into {self.path.parent} ({error.strerror}); give a folder that "
                "exists and that you may write to."
            ) from error
        hold(self._file)  # while this process lives, nobody takes it for a leftover
        self._file.write(self._header())

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

    def write(self, block: Tensor) -> None:
        """Append a block (C, n). Raises LilyError if a sample is not finite."""
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
        if self.subtype == "PCM_24":
            # The three low bytes of each little-endian 32-bit integer.
            integers = steps.astype("<i4").view(np.uint8).reshape(-1, 4)
            self._file.write(integers[:, :3].tobytes())
        else:
            self._file.write(samples.astype("<f4").tobytes())
        self.frames += samples.shape[0]

    def close(self) -> None:
        """Complete the header and give the file its name; nothing happens a second time."""
        if self._file.closed:
            return
        try:
            if self._data_bytes() % 2:
                self._file.write(b"\0")  # chunks are padded to even length
            self._file.seek(0)
            self._file.write(self._header())
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete what was written; the file named `path`, if any, is as it was."""
        if self._temporary.exists() or not self._file.closed:
            with contextlib.suppress(OSError):  # a full disk fails once more on what is buffered
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _become_float(self) -> None:
        """Copy what was written into a float file: 24-bit integers are exact in float32."""
        old_file, old_temporary, offset = self._file, self._temporary, len(self._header())
        self.subtype = "FLOAT"
        self._open()
        try:
            self._copy_as_float(old_file, offset)
        finally:
            old_file.close()
            old_temporary.unlink(missing_ok=True)

    def _copy_as_float(self, old_file: BufferedRandom, offset: int) -> None:
        old_file.seek(offset)
        while data := old_file.read(3 * COPY_SAMPLES):
            integers = np.zeros((len(data) // 3, 4), np.uint8)
            integers[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            signed = integers.view("<i4")[:, 0] >> 8
            self._file.write((signed / np.float32(FULL_SCALE)).astype("<f4").tobytes())

    def _sample_bytes(self) -> int:
        return 3 if self.subtype == "PCM_24" else 4

    def _data_bytes(self) -> int:
        return self.frames * self.channels * self._sample_bytes()

    def _header(self) -> bytes:
        """Lay out RIFF, room for 64-bit sizes, format, (frames,) and the data's size."""
        size, kind = self._sample_bytes(), PCM if self.subtype == "PCM_24" else FLOAT
        frame = self.channels * size
        extensible = self.channels > 2
        tag = EXTENSIBLE if extensible else kind
        rates = (self.sample_rate, self.sample_rate * frame, frame, size * 8)
        form = struct.pack("<HHIIHH", tag, self.channels, *rates)
        if extensible:
            extra = struct.pack("<HHIH", 22, size * 8, SPEAKERS[self.channels], kind)
            form += extra + GUID_TAIL
        body = b"fmt " + struct.pack("<I", len(form)) + form
        if kind == FLOAT:
            body += b"fact" + struct.pack("<II", 4, min(self.frames, UNKNOWN_SIZE))
        data = self._data_bytes()
        # "WAVE", the 36 bytes of JUNK or ds64, the chunks, "data" and its size, the padded samples.
        riff = 4 + 36 + len(body) + 8 + data + data % 2
        if riff <= LARGEST_RIFF:
            head = b"RIFF" + struct.pack("<I", riff) + b"WAVE" + b"JUNK" + struct.pack("<I", 28)
            return head + bytes(28) + body + b"data" + struct.pack("<I", data)
        sizes = struct.pack("<QQQI", riff, data, self.frames, 0)
        head = b"RF64" + struct.pack("<I", UNKNOWN_SIZE) + b"WAVE" + b"ds64" + struct.pack("<I", 28)
        return head + sizes + body + b"data" + struct.pack("<I", UNKNOWN_SIZE)
