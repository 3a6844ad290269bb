"""Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598) on the v-prediction.

v is linear in the clean latent at any one time, so guiding v is guiding the clean latent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x, low, t) to v


def guided(
    predict: Predict,
    x: Tensor,
    low: Tensor,
    t: Tensor,
    unconditional_low: Tensor | float,
    guidance: float,
) -> Tensor:
    """Predict v (B, z, L, M') in float32, moved away from what is predicted without a condition.

    ``x`` and ``low`` are (B, z, L, M'), ``t`` (B,), ``unconditional_low`` anything that broadcasts
    to ``low``. Both branches are one batch of 2 B rows, the conditional ones first. A guidance of
    1.0 is off: B rows, no unconditional branch.
    """
    if guidance == 1.0:
        return predict(x, low, t).float()
    without = torch.as_tensor(unconditional_low, dtype=low.dtype, device=low.device)
    rows = torch.cat([low, without.expand_as(low)])
    conditional, unconditional = (
        # float32 before the difference: guidance multiplies half precision's rounding.
        predict(torch.cat([x, x]), rows, torch.cat([t, t])).float().chunk(2)
    )
    return unconditional + guidance * (conditional - unconditional)
