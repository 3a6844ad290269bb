"""Laws of the sentences about an output's checks."""

from __future__ import annotations

import pytest

from lily.certify.check import RECORDED_PEAK, TRUE_PEAK, Check, failed, format_note, peak_note


def peaks(recorded_db: float, made_db: float) -> list[Check]:
    return [Check(RECORDED_PEAK, recorded_db, "dBTP"), Check(TRUE_PEAK, made_db, "dBTP")]


@pytest.mark.parametrize(
    ("recorded_db", "made_db", "lower"),
    [
        (-1.0, 1.84, "1.9 dB"),
        (0.3, 0.31, "0.4 dB"),
        (-200.0, 0.01, "0.1 dB"),
        (-3.0, 2.0, "2 dB"),
        (-3.0, 1.1, "1.1 dB"),
        (-3.0, 1.11, "1.2 dB"),
    ],
)
@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24"])
def test_a_peak_above_full_scale_is_said_with_what_to_do(subtype, recorded_db, made_db, lower):
    said = peak_note(peaks(recorded_db, made_db), subtype)
    assert f"from {recorded_db:g} to {made_db:g} dBTP" in said and f"lower it by {lower}" in said
    assert ("not clipped" in said) is (subtype == "FLOAT")
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("recorded_db", "made_db"), [(-1.0, 0.0), (-1.0, -0.5), (1.5, 1.5), (1.5, 1.2)]
)
def test_a_peak_that_is_none_or_the_recordings_own_needs_no_word(recorded_db, made_db):
    assert peak_note(peaks(recorded_db, made_db), "FLOAT") == ""


def test_without_checks_there_is_nothing_to_say():
    assert peak_note([], "FLOAT") == "" and failed([]) == []


@pytest.mark.parametrize(
    ("recorded", "asked", "said"),
    [
        ("PCM_16", "flac", "a 32-bit float WAV instead of a FLAC, as 24 bits cannot hold its peak"),
        ("PCM_16", "wav", "a 32-bit float WAV, as 24 bits cannot hold its peak of +6.02 dBFS."),
        ("FLOAT", "wav", "a 32-bit float WAV, as"),
    ],
)
def test_a_float_output_is_said_with_its_reason(recorded, asked, said):
    assert said in format_note("FLOAT", 2.0, recorded, asked)


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("FLOAT", "the recording 32-bit float"),
        ("PCM_32", "the recording 32-bit:"),
        ("PCM_24", ""),
        ("PCM_16", ""),
        ("MPEG_LAYER_III", ""),
    ],
)
def test_a_24_bit_output_is_said_only_of_a_wider_recording(recorded, said):
    note = format_note("PCM_24", 0.5, recorded, "flac")
    assert said in note and bool(note) is bool(said)
