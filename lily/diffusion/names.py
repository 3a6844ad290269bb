"""The samplers by name and the numbers of steps they take; needs no torch."""

from __future__ import annotations

TIMES = 1000  # training times, 0 (almost clean) to 999 (almost noise)
ORDERS = {"dpmpp2m": 2, "ddim": 1}
SAMPLERS = tuple(ORDERS)  # the deterministic ones, which a preset may offer
AUDIOSR = "ddim-eta1"
# 500 and 1,000 would begin where AudioSR's signal power is 0 and its own sampler returns NaN.
AUDIOSR_STEPS = tuple(n for n in range(1, 251) if TIMES % n == 0)
