"""What analysis says of a recording that decoding had to repair."""

from __future__ import annotations

import soundfile
from made import mp3, sound, zeroed

from lily.inference.analyze import analyze
from lily.inference.options import UpsampleOptions


def test_what_decoding_repaired_is_in_the_finding(tmp_path):
    header, frames = mp3(sound(4.0), 44_100)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(header + zeroed(frames, 0.5, 450))
    diagnosis = analyze(path, 48_000, UpsampleOptions()).diagnosis
    assert diagnosis.repairs
    assert diagnosis.repairs[0] in diagnosis.text
    assert tuple(diagnosis.to_dict()["repairs"]) == diagnosis.repairs


def test_a_whole_recording_needed_no_repair(tmp_path):
    path = tmp_path / "whole.wav"
    soundfile.write(path, sound(1.0), 44_100)
    assert analyze(path, 48_000, UpsampleOptions()).diagnosis.repairs == ()
