"""What a user may know of a recording's original, for the cases in which it is given.

``borrowed``: another recording of the same source, full-band. ``stranger``: one of another source.
``set``: the true wall and brightness. Each is compared with the encoder on without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lily.dsp.mel import LogMel, bin_centres_hz
from lily.inference.options import BRIGHTNESS_DB
from lily.model.global_encoder import GlobalContext
from lily.model.recording_profile import BANDS_HZ, COUNT, EDGE, LEVELS, in_units, measure

INFORMED = ("borrowed", "stranger", "set")
PEAK = 0.5  # the level at which profiles are measured in training


def true_settings(
    reference: Tensor, context: GlobalContext, cutoff_hz: float, mel: LogMel
) -> dict[str, float]:
    """The wall and the brightness of a full-band ``reference`` (C, T), as a user would give them.

    Brightness is the mean difference of its levels above the cutoff from those that ``context``
    expects. A figure that the reference has not is left out.
    """
    mixed = reference.mean(0, keepdim=True)
    log_mel = mel(mixed * (PEAK / mixed.abs().max().clamp(min=1e-5)))[0]
    true = in_units(measure(log_mel, bin_centres_hz(mel)))
    found = {}
    if true[EDGE] * 1000 > cutoff_hz:
        found["wall_hz"] = float(true[EDGE] * 1000)
    expected = in_units(context.vector[:, :COUNT].float().cpu())[0]
    above = torch.tensor([high > cutoff_hz for _, high in BANDS_HZ])
    brighter = (true - expected)[LEVELS][above]
    brighter = brighter[~brighter.isnan()]
    if len(brighter):
        found["brightness_db"] = float(brighter.mean().clamp(*BRIGHTNESS_DB))
    return found
