"""Verify an output: against its metadata, and by a null test against its recording.

The null test uses only the samples of the file under test, and nothing from its metadata: the
cutoff is detected in the recording, as in a run, and the two are subtracted without any alignment.
A cutoff that was chosen by hand is an argument here as well; if the metadata could lower it, a
forger would choose which band is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lily.audio.read import AudioInfo, read_blocks
from lily.audio.resample import Resampler
from lily.audio.sample_hash import AudioHash, SampleHash
from lily.bandwidth.diagnosis import SILENT_PEAK, detected_cutoffs
from lily.bandwidth.meter import BandwidthMeter
from lily.certify.check import Check
from lily.certify.inputs import verify_inputs
from lily.certify.metadata import OutputMetadata, read_metadata
from lily.certify.null_test import decibels
from lily.certify.output_meter import OutputMeter, checks
from lily.dsp.cutoffs import Cutoffs
from lily.errors import InputError

SAME_HZ = 0.02  # cutoffs closer than 2 % are one: the detector resolves no more
SAME_SECONDS = 0.5
Segments = tuple[tuple[float, float], ...]  # (start in seconds, cutoff in Hz)


@dataclass(frozen=True)
class Verdict:
    """What was found of one file."""

    file: Path
    metadata: Path | None  # None: there is none beside the file
    against: Path | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if every check passed."""
        return all(check.passed is not False for check in self.checks)


def verify(file: Path, against: Path | None = None, cutoff_hz: Segments = ()) -> Verdict:
    """Verify ``file``; with ``against`` its metadata may be absent.

    ``cutoff_hz`` replaces the detected cutoffs of ``against``. Raises InputError if a file cannot
    be read, or if there is neither metadata nor a recording to compare with.
    """
    inputs = verify_inputs(file, against)
    info, beside, recording = inputs.info, inputs.metadata, inputs.recording
    stated, foreign = _metadata(beside, required=against is None)
    if against is None or recording is None:
        assert stated is not None  # verify_inputs refuses a file with nothing to compare it with
        return Verdict(file, beside, None, (_file_hash(file, stated),))
    if recording.channels != info.channels:
        channels = Check("Channels", f"{info.channels} of {recording.channels}", "", False)
        return Verdict(file, None if foreign else beside, against, (*foreign, channels))
    rows = _null_test(file, info, against, recording, cutoff_hz, stated)
    return Verdict(file, None if foreign else beside, against, (*foreign, *rows))


def _metadata(path: Path | None, required: bool) -> tuple[OutputMetadata | None, tuple[Check, ...]]:
    """The metadata beside a file; if it belongs to something else, a row that says so.

    The null test needs no metadata. Raises InputError where it is ``required``.
    """
    try:
        return (read_metadata(path) if path else None), ()
    except InputError as error:
        if required:
            raise
        return None, (Check("Metadata", f"not used: {error}"),)


def _file_hash(file: Path, stated: OutputMetadata) -> Check:
    digest = SampleHash()
    for block in read_blocks(file):
        digest.update(block)
    return _same("Samples are those in the metadata", digest, stated.output.sha256)


def _same(label: str, digest: SampleHash, stated: str) -> Check:
    same = digest.hexdigest() == stated
    return Check(label, "yes" if same else "no", "", same)


def _null_test(
    file: Path,
    info: AudioInfo,
    against: Path,
    recording: AudioInfo,
    given: Segments,
    stated: OutputMetadata | None,
) -> tuple[Check, ...]:
    rate = info.sample_rate
    detected = _detected(against, recording, rate)
    cutoffs = Cutoffs.from_seconds(given, rate) if given else detected
    # A full band is copied unless a cutoff was requested, a silent recording always.
    tested = None if cutoffs.full and len(given) != 1 else cutoffs
    meter = OutputMeter(tested, rate)
    output_hash = SampleHash()
    input_hash = AudioHash(recording.sample_rate, recording.channels)
    recorded = _resampled(against, recording, rate, input_hash.update)
    length, expected = 0, 0
    for block in read_blocks(file):
        output_hash.update(block)
        length += block.shape[-1]
        while expected < length and (part := next(recorded, None)) is not None:
            expected += part.shape[-1]
            meter.push(recording=part)
        if (
            length - block.shape[-1] < expected
        ):  # beyond the recording's end there is nothing to test
            meter.push(output=block)
    expected += sum(part.shape[-1] for part in recorded)
    rows = [_cutoff_row(given, detected, rate, stated)]
    if stated is not None:
        rows += [
            _same("Samples are those in the metadata", output_hash, stated.output.sha256),
            _same("Recording is the one in the metadata", input_hash, stated.input.sha256),
        ]
    found = meter.finish()
    generated = tested is not None and found.true_peak_db[0] >= decibels(SILENT_PEAK**2)
    period = rate / cutoffs.lowest_hz if generated else 0.0
    return (*rows, *checks(found, (expected, length), info.subtype, period))


def _detected(path: Path, info: AudioInfo, sample_rate: int) -> Cutoffs:
    """The recording's cutoffs by the detector that a run uses."""
    meter = BandwidthMeter(sample_rate, nyquist_hz=info.sample_rate / 2)
    for block in _resampled(path, info, sample_rate):
        meter.push(block)
    return detected_cutoffs(info, meter, sample_rate)


def _resampled(
    path: Path, info: AudioInfo, sample_rate: int, *readers: Callable[[Tensor], None]
) -> Iterator[Tensor]:
    """Blocks (C, n) at ``sample_rate``; ``readers`` get them at the file's own rate."""
    resampler = Resampler(info.sample_rate, sample_rate)
    for block in read_blocks(path):
        for reader in readers:
            reader(block)
        yield resampler.push(block)
    yield resampler.flush()


def _cutoff_row(
    given: Segments, detected: Cutoffs, sample_rate: int, stated: OutputMetadata | None
) -> Check:
    """Which cutoff was tested, and whether the metadata states another one."""
    found = tuple(track.in_seconds(sample_rate) for track in detected.channels or (detected,))
    text = " / ".join(map(_hz, found)) + " detected"
    tested = (given,) if given else found
    if given:
        text = f"{_hz(given)} as given, {text}"
    if stated is not None:
        tracks = stated.channel_cutoffs or (stated.cutoffs,)
        if len(tracks) != len(tested) or not all(map(_agree, tracks, tested)):
            source = {"given": "by hand", "profile": "by its profile"}
            by = source.get(stated.cutoff_source, "detected")
            text += f"; the metadata states {' / '.join(map(_hz, tracks))} ({by})"
    return Check("Cutoff", text)


def _agree(a: Segments, b: Segments) -> bool:
    return len(a) == len(b) and all(
        abs(start - other) <= SAME_SECONDS and abs(hz - other_hz) <= SAME_HZ * other_hz
        for (start, hz), (other, other_hz) in zip(a, b, strict=True)
    )


def _hz(segments: Segments) -> str:
    if len(segments) == 1:
        return f"{segments[0][1]:,.0f} Hz"
    return ", ".join(f"{hz:,.0f} Hz from {start:.1f} s" for start, hz in segments)
