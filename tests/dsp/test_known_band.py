"""Laws of what is put back: the recording, its silence, and a crossover without a notch."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.degrade import LowpassSpec, apply_lowpass
from lily.dsp.known_band import LOBE_HZ, KnownBand, missing
from lily.dsp.mel import FLOOR, LOG_FLOOR, LogMel, bin_centres_hz, sounding
from lily.dsp.splice import Splicer, recorded_share

MELS, RATE = 256, 48_000
MEL = LogMel(MelConfig())
CENTRES_HZ = bin_centres_hz(MEL)
CUTOFFS_HZ = [500.0, 2_000.0, 4_000.0, 8_000.0, 12_000.0, 19_999.0, 20_000.0]


def restored(generated: torch.Tensor, low: torch.Tensor, cutoff_hz: float) -> torch.Tensor:
    known = KnownBand(MEL, Cutoffs.constant(cutoff_hz))
    return known.restore(generated, low, torch.full((len(low),), cutoff_hz))


@pytest.mark.parametrize("cutoff_hz", CUTOFFS_HZ)
def test_below_the_crossover_is_the_recording_and_above_the_cutoff_what_is_generated(
    cutoff_hz, randn
):
    low, generated = randn(3, MELS), randn(3, MELS)
    made = restored(generated, low, cutoff_hz)
    below, above = 0.9 * cutoff_hz >= CENTRES_HZ, cutoff_hz + LOBE_HZ <= CENTRES_HZ
    assert torch.equal(made[:, below], low[:, below])
    assert torch.equal(made[:, above], generated[:, above])


def test_what_depends_on_the_cutoff_alone_is_computed_once(randn, monkeypatch):
    known = KnownBand(MEL, Cutoffs.constant(4_000.0))

    def again(*_args, **_options):
        raise AssertionError("computed for each chunk")

    monkeypatch.setattr(torch, "diff", again)
    monkeypatch.setattr("lily.dsp.known_band.recorded_share", again)
    for _ in range(2):
        known.restore(randn(3, MELS), randn(3, MELS), torch.full((3,), 4_000.0))


@pytest.mark.parametrize("cutoff_hz", CUTOFFS_HZ)
@pytest.mark.parametrize("fall_db", [0.0, 3.0, 40.0])
def test_in_the_crossover_powers_add_to_the_level_that_is_expected(cutoff_hz, fall_db):
    wanted = torch.zeros(1, MELS)
    recorded = wanted - fall_db / 8.686
    share = recorded_share(CENTRES_HZ, cutoff_hz, RATE)
    made = missing(wanted, recorded, share)
    power = (share * recorded.exp()).square() + ((1 - share) * made.exp()).square()
    inside = (0.9 * cutoff_hz < CENTRES_HZ) & (cutoff_hz > CENTRES_HZ) & (share < 0.5)
    assert inside.any()
    assert torch.allclose(power[:, inside], torch.ones(1, int(inside.sum())), atol=0.001)
    assert (made <= wanted + 6.03 / 8.686).all()


def test_a_recording_louder_than_expected_has_a_quarter_of_the_power_added():
    share = torch.full((4,), 0.5)
    made = missing(torch.zeros(1, 4), torch.full((1, 4), 5.0), share)
    assert torch.allclose(made.exp() * 0.5, torch.tensor(0.5))


@pytest.mark.parametrize("cutoff_hz", CUTOFFS_HZ)
def test_the_share_is_that_of_the_splice(cutoff_hz):
    impulse = torch.zeros(1, 16_384)
    impulse[0, 8_192] = 1.0
    splicer = Splicer(Cutoffs.constant(cutoff_hz), RATE, 1)
    out = torch.cat([splicer.push(impulse, 0 * impulse), splicer.flush()], -1)
    gain = torch.fft.rfft(out[0].double()).abs()
    hz = torch.linspace(0, RATE / 2, len(gain))
    assert (gain - recorded_share(hz, cutoff_hz, RATE)).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["butter", "resample"])
@pytest.mark.parametrize("cutoff_hz", [2_000.0, 8_000.0])
def test_noise_with_what_is_missing_has_no_notch(family, cutoff_hz, randn):
    """Noise shaped by the restored log-mel, as an ideal vocoder would, spliced onto a low-pass."""
    noise, other = randn(2, 1, 4 * RATE).unbind()
    recording = apply_lowpass(noise, LowpassSpec(family, 8, cutoff_hz), RATE)
    low, generated = MEL(recording)[0], MEL(noise)[0]
    wanted = generated.exp().square().mean(0).sqrt().log()
    made = restored(wanted[None], low.exp().square().mean(0).sqrt().log()[None], cutoff_hz)[0]
    spectrum = torch.fft.rfft(other)
    hz = torch.linspace(0, RATE / 2, spectrum.shape[-1])
    place = torch.searchsorted(CENTRES_HZ, hz).clamp(1, MELS - 1)
    share = ((hz - CENTRES_HZ[place - 1]) / (CENTRES_HZ[place] - CENTRES_HZ[place - 1])).clamp(0, 1)
    gain = torch.lerp((made - wanted)[place - 1], (made - wanted)[place], share).exp()
    generated = torch.fft.irfft(spectrum * gain, n=noise.shape[-1])
    splicer = Splicer(Cutoffs.constant(cutoff_hz), RATE, 1)
    out = torch.cat([splicer.push(recording, generated), splicer.flush()], -1)
    power = torch.fft.rfft(out[0]).abs().square() / torch.fft.rfft(noise[0]).abs().square().mean()
    for start in (0.92, 0.94, 0.96, 0.98, 1.0, 1.02):
        band = (hz >= start * cutoff_hz) & (hz < (start + 0.02) * cutoff_hz)
        level_db = float(10 * power[band].mean().log10())
        # Where the splice still takes mostly the recording, a gentle fall remains.
        assert abs(level_db) < (3.5 if start < 0.94 and family == "butter" else 1.5), start


def sounds(cutoff_hz: float) -> dict[str, torch.Tensor]:
    time = torch.arange(2 * RATE) / RATE
    tone = torch.sin(2 * torch.pi * 0.93 * cutoff_hz * time)
    return {
        "tone": tone,
        "square wave": tone.sign(),
        "clicks": (torch.arange(2 * RATE) % 9_000 == 4_500).float(),
        "20 ms": tone * (time < 0.02),
    }


def power_beside(log_mel: torch.Tensor, cutoff_hz: float) -> torch.Tensor:
    """Of mels from the crossover to where a tone below it reaches, which are equally wide here."""
    beside = (0.9 * cutoff_hz < CENTRES_HZ) & (cutoff_hz + LOBE_HZ > CENTRES_HZ)
    return log_mel[:, beside].exp().square().sum(1)


@pytest.mark.parametrize("cutoff_hz", [500.0, 600.0, 800.0, 900.0])
@pytest.mark.parametrize("sound", sounds(500.0))
def test_beside_a_low_cutoff_no_more_is_generated_than_a_share_of_the_recording(sound, cutoff_hz):
    spec = LowpassSpec("butter", 8, cutoff_hz)
    low = MEL(apply_lowpass(sounds(cutoff_hz)[sound][None], spec, RATE))[0]
    heard = sounding(low, CENTRES_HZ)
    made = restored(low + 2.0, low, cutoff_hz)  # 17 dB too much is expected
    recorded = low[:, cutoff_hz + LOBE_HZ > CENTRES_HZ].exp().square().sum(1)
    floor = MELS * FLOOR**2  # nothing is restored below it
    most = 1.001 * cutoff_hz / 2_000
    assert (power_beside(made, cutoff_hz)[heard] <= most * recorded[heard] + floor).all()


@pytest.mark.parametrize("cutoff_hz", [500.0, 700.0, 1_000.0, 1_999.0])
def test_noise_beside_a_low_cutoff_stays_at_its_level(cutoff_hz, randn):
    noise = MEL(randn(1, 4 * RATE))[0].exp().square().mean(0).sqrt().log()[None]
    beside = (cutoff_hz <= CENTRES_HZ) & (cutoff_hz + LOBE_HZ > CENTRES_HZ)
    change = (restored(noise, noise, cutoff_hz) - noise)[:, beside]
    assert change.abs().max() < 1.0 / 8.686


@pytest.mark.parametrize("cutoff_hz", [2_000.0, 4_000.0, 12_000.0])
@pytest.mark.parametrize("sound", sounds(500.0))
def test_beside_a_cutoff_no_more_is_generated_than_the_recording_has(sound, cutoff_hz):
    spec = LowpassSpec("butter", 8, cutoff_hz)
    low = MEL(apply_lowpass(sounds(cutoff_hz)[sound][None], spec, RATE))[0]
    heard, widths = sounding(low, CENTRES_HZ), torch.diff(CENTRES_HZ, append=CENTRES_HZ[-1:])
    made = restored(low + 4.0, low, cutoff_hz)  # 35 dB too much is expected
    power = {"made": made.exp().square() * widths, "recorded": low.exp().square() * widths}
    reached = cutoff_hz + LOBE_HZ > CENTRES_HZ
    beside = power["made"][:, reached & (0.9 * cutoff_hz < CENTRES_HZ)].sum(1)[heard]
    floor = MELS * 100 * FLOOR**2  # nothing is restored below it
    assert (beside <= 1.001 * power["recorded"][:, reached].sum(1)[heard] + floor).all()


def test_of_segments_only_a_full_one_is_known_whole():
    cutoffs = Cutoffs((0, 480), (22_000.0, 4_000.0))
    low, generated = torch.full((2, MELS), 1.0), torch.full((2, MELS), 2.0)
    made = KnownBand(MEL, cutoffs).restore(generated, low, torch.tensor([22_000.0, 4_000.0]))
    assert (made[0] == 1.0).all()
    assert 0 < (made[1] == 1.0).sum() < MELS


def test_what_is_silent_in_the_recording_stays_silent(randn):
    low, generated = randn(4, MELS), randn(4, MELS) + 5
    low[1] = LOG_FLOOR
    made = restored(generated.clone(), low, 4_000.0)
    assert (made[1] == LOG_FLOOR).all()
    assert torch.equal(made[0, -20:], generated[0, -20:])


def test_digital_silence_is_silent_although_the_recordings_mean_was_taken_out(randn):
    recording = 0.1 * randn(1, 5 * RATE)
    recording[:, 2 * RATE : 4 * RATE] = 0.0
    low = MEL(5 * (recording - recording.mean()))[0]
    frames = slice(2 * 100 + 5, 4 * 100 - 5)
    assert (low[frames].amax(1) > LOG_FLOOR).all()  # the mean in the lowest mels
    heard = sounding(low, CENTRES_HZ)
    assert not heard[frames].any()
    assert heard[: 2 * 100].all() and heard[4 * 100 + 5 :].all()
    made = restored(randn(len(low), MELS) - 5, low, 8_000.0)
    assert (made[frames] == LOG_FLOOR).all()


def test_nothing_generated_falls_below_the_floor(randn):
    generated = torch.full((2, MELS), LOG_FLOOR - 3)
    made = restored(generated, randn(2, MELS), 4_000.0)
    assert made.min() >= torch.tensor(LOG_FLOOR)
