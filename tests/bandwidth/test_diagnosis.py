"""Laws of the diagnosis: its kind, and what it says is done about it."""

import math

import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.audio.read import AudioInfo
from lily.audio.resample import resample
from lily.bandwidth.diagnosis import ClippingMeter, Diagnosis, describe, diagnose
from lily.bandwidth.meter import BandwidthMeter
from lily.dsp.codec import mp3, round_trip
from lily.dsp.filters import filter_whole, lowpass_kernel

RATE = 48_000


def bursts(seed: int, seconds: float = 6.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    length = int(seconds * RATE)
    gate = torch.rand(1, 1, int(8 * seconds), generator=generator)
    envelope = torch.nn.functional.interpolate(gate, length, mode="linear")[0].square()
    return 0.2 * torch.randn(1, length, generator=generator) * envelope


def diagnosis(x: torch.Tensor, rate: int = RATE, subtype: str = "PCM_24", **how) -> Diagnosis:
    meter = BandwidthMeter(nyquist_hz=rate / 2)
    meter.push(x)
    clipping = ClippingMeter()
    clipping.push(x)
    info = AudioInfo(rate, x.shape[0], x.shape[-1], "WAV", subtype)
    means = x.mean(dim=1, keepdim=True)
    peak = float((x - means).abs().max())
    found = diagnose(info, meter, clipping.peaks, means, peak)
    return describe(found, info, how.pop("lowest_hz", found.segments[0][1]), **how)


def low(x: torch.Tensor, cutoff_hz: float, width: float = 0.03) -> torch.Tensor:
    kernel = lowpass_kernel((1 - width) * cutoff_hz, (1 + width) * cutoff_hz, RATE)
    return filter_whole(x, kernel)


TONE = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(6 * RATE) / RATE)[None]
KEPT = "a few tones, which do not say where its band ends."


@pytest.mark.parametrize(
    ("x", "rate", "subtype", "kind", "said"),
    [
        (bursts(0), RATE, "PCM_24", "full", "The band is already full up to 24.0 kHz."),
        (torch.zeros(1, RATE), RATE, "PCM_24", "silent", "silent"),
        (TONE, RATE, "PCM_24", "tones", KEPT),
        (TONE, 8_000, "PCM_16", "tones", "filling from 4.0 kHz, where its own rate ends."),
        (resample(bursts(1), RATE, 8_000), 8_000, "PCM_16", "own rate", "own rate of 8 kHz"),
        (resample(bursts(2), RATE, 8_000), RATE, "PCM_16", "up-sampled", "as one of 8 kHz does"),
        (low(bursts(3), 6_500), RATE, "PCM_24", "low-passed", "Low-passed: a 48 kHz file"),
        (low(bursts(4), 11_000), RATE, "MPEG_LAYER_III", "lossy", "Lossy source (MP3, shelf at"),
    ],
)
def test_every_kind_is_named(x, rate, subtype, kind, said) -> None:
    if x.shape[-1] < RATE * 6 and kind != "silent":
        x = resample(x, 8_000, RATE)
    fills = kind not in ("full", "silent") and said != KEPT
    found = diagnosis(x, rate, subtype, **({} if fills else {"lowest_hz": None}))
    assert found.kind == kind
    assert said in found.text
    assert ("filling from" in found.text) is fills


def test_a_changing_band_is_described_with_its_times() -> None:
    x = torch.cat([bursts(5, 70.0), low(bursts(6, 12.0), 4_000)], dim=-1)
    found = diagnosis(x, lowest_hz=4_000.0)
    assert found.kind == "changing"
    assert "from 1:10 on 4." in found.text and "wide parts stay as they are" in found.text


def test_the_reason_of_a_given_cutoff_is_described() -> None:
    text = diagnosis(bursts(7), lowest_hz=9_000.0, because="as asked").text
    assert text.endswith("up to 24.0 kHz: filling from 9.0 kHz as asked.")


def test_mp3_leaves_holes_and_filters_do_not() -> None:
    x = bursts(8)
    x = 0.05 * low(x, 12_000) + low(x, 900)  # as music: the highs are the quiet part
    filtered, coded = diagnosis(low(x, 11_000)), diagnosis(round_trip(x, mp3(32)))
    assert filtered.holes == 0.0
    assert coded.holes > 0.001


def test_holes_alone_make_a_lossy_source() -> None:
    found = Diagnosis("lossy", ((0.0, 11_000.0),), "", 0.02, 0, 0.0)
    info = AudioInfo(RATE, 1, None, "WAV", "PCM_24")
    text = describe(found, info, 11_000.0).text
    assert text == (
        "Lossy source (holes as codecs leave them, shelf at 11.0 kHz): filling from 11.0 kHz."
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    over_db=st.floats(3, 20),
    level=st.floats(0.01, 1.0),
    block=st.integers(99, 9_000),
    seed=st.integers(0, 99),
)
def test_clipping_is_counted_at_any_level_whatever_the_blocks(over_db, level, block, seed) -> None:
    x = low(bursts(seed, 1.0), 6_000)
    x = (x / x.abs().max() * 10 ** (over_db / 20)).clamp(-1, 1) * level
    whole, pieced = ClippingMeter(), ClippingMeter()
    whole.push(x)
    for part in x.split(block, dim=-1):
        pieced.push(part)
    assert whole.peaks > 0
    assert pieced.peaks == pytest.approx(whole.peaks, abs=1)  # the peak may come late


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_and_bass_are_no_clipping(bits: int) -> None:
    time = torch.arange(4 * RATE) / RATE
    tone = 0.9 * torch.sin(2 * math.pi * 40 * time)[None]
    meter = ClippingMeter()
    meter.push((tone * 2 ** (bits - 1)).round() / 2 ** (bits - 1))
    assert meter.peaks == 0


def test_clipping_and_an_offset_are_mentioned() -> None:
    x = low(bursts(9) * 20, 5_000).clamp(-0.5, 0.5)
    found = diagnosis(0.9 * x + 0.05)
    assert found.clipped and "clipped" in found.text
    assert found.dc == pytest.approx(0.05, abs=0.01) and "-26 dBFS" in found.text
    assert "clipped" not in diagnosis(bursts(10)).text and "DC" not in diagnosis(bursts(10)).text


def test_a_real_mp3_names_itself(tmp_path) -> None:
    from lily.audio.read import probe

    path = tmp_path / "a.mp3"
    soundfile.write(path, bursts(11)[0].numpy(), RATE, format="MP3", subtype="MPEG_LAYER_III")
    info = probe(path)
    meter = BandwidthMeter()
    meter.push(low(bursts(11), 11_000))
    assert diagnose(info, meter, 0, torch.zeros(1, 1), 1.0).codec == "MP3"


def test_a_tone_beside_quiet_music_is_described_by_channel():
    tone = 0.5 * torch.sin(2 * math.pi * 3_000 * torch.arange(6 * RATE) / RATE)[None]
    found = diagnosis(torch.cat([tone, 0.02 * low(bursts(5), 6_000)]))
    assert found.kind == "channels" and "few tones" not in found.text
    assert "left channel full, right channel filled from 6" in found.text
