"""Many requests to the running app: each answered, none wrong, memory flat, temporary files gone.

``load.py`` is the long form, with the numbers that docs/security.md gives.
"""

from __future__ import annotations

import pytest
from load import measure

pytestmark = pytest.mark.slow

SEQUENTIAL, CONCURRENT = 30, 8
GROWN_MB = 100  # of some 900: what allocators keep, not what a leak of recordings would be


def test_every_request_is_answered_rightly_and_leaves_nothing(tmp_path):
    report, left, surprises = measure(SEQUENTIAL, CONCURRENT, tmp_path)
    assert report.asked == SEQUENTIAL + CONCURRENT and not report.wrong, report.wrong
    assert set(report.kinds) == {"filled", "refused"}
    assert not left and not surprises
    warm, *later = report.memory_mb
    assert max(later) - warm < GROWN_MB, report.memory_mb
