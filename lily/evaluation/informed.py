"""What a user may know of a recording's original, for the cases in which it is given.

``borrowed``: another recording of the same source, full-band, the one whose name begins most alike:
of the same voice or album. ``stranger``: one of another source. Of either the first three minutes
are read. ``set``: the true wall and brightness. Each is compared with the encoder on without it.
"""

from __future__ import annotations

from torch import Tensor

from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LogMel, bin_centres_hz
from lily.inference.options import BRIGHTNESS_DB
from lily.model.recording_profile import EDGE, HEARD_DB, in_units, measure

INFORMED = ("borrowed", "stranger", "set")
PEAK = 0.5  # the level at which profiles are measured in training
ABOVE = 1.05  # x cutoff: where the level is compared


def true_settings(
    reference: Tensor, blind: Tensor, cutoff_hz: float, mel: LogMel
) -> dict[str, float]:
    """The wall and the brightness of a full-band ``reference`` (C, T), as a user would give them.

    The user has heard ``blind`` (C, T), made without them: brightness is the mean difference of
    the levels above the cutoff, in dB, in frames that are heard. A figure that the reference has
    not is left out.
    """
    mixed = reference.mean(0, keepdim=True)
    log_mel = mel(mixed * (PEAK / mixed.abs().max().clamp(min=1e-5)))[0]
    hz = bin_centres_hz(mel)
    edge_hz = float(in_units(measure(log_mel, hz))[EDGE] * 1000)
    found = {"wall_hz": edge_hz} if edge_hz > cutoff_hz else {}
    band = (hz > ABOVE * cutoff_hz) & (hz < found.get("wall_hz", hz[-1]))
    true, made = mel(mixed)[0], mel(blind.mean(0, keepdim=True))[0]
    frames = min(len(true), len(made))
    energy = (2 * true[:frames]).exp().sum(1)
    heard = energy > energy.mean() * 10 ** (-HEARD_DB / 10)
    if band.any() and heard.any():
        brighter = (true[:frames] - made[:frames])[heard][:, band].mean() * NEPER_DB
        found["brightness_db"] = float(brighter.clamp(*BRIGHTNESS_DB))
    return found
