"""Perceptual metrics of other projects: Zimtohrli on every recording, ViSQOL where asked for.

Both compare the first ten seconds with the reference at 48 kHz, mono. They come with
``pip install lily-audio[evaluation]``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from torch import Tensor

from lily.evaluation.metrics import SAMPLE_RATE

SECONDS = 10  # of each recording: the metrics cost up to a second per second
Judge = Callable[[np.ndarray, np.ndarray], float]


def opinion(name: str, reference: Tensor, estimate: Tensor) -> float:
    """A judge's mean opinion score of an estimate (C, T) at 48 kHz, 1 to 5."""
    pair = (x.mean(0)[: SECONDS * SAMPLE_RATE].clamp(-1, 1).numpy() for x in (reference, estimate))
    return _judge(name)(*pair)


@cache
def _judge(name: str) -> Judge:
    return {"zimtohrli": _zimtohrli, "visqol": _visqol}[name]()


def _zimtohrli() -> Judge:
    import zimtohrli

    return lambda a, b: float(zimtohrli.mos_from_signals(a, b))


def _visqol() -> Judge:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio", disable_global_alignment=True)
    return lambda a, b: float(
        api.measure_from_arrays(a.astype(np.float64), b.astype(np.float64), SAMPLE_RATE).moslqo
    )
