"""What grows with a recording is kept in few arrays, so that memory stays in one piece."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lily.bandwidth.rows import FIRST, Rows

MEASURE = """
import torch
from lily.bandwidth.meter import BandwidthMeter
from lily.cli.malloc import keep_freed_memory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) // 1024

keep_freed_memory()
torch.set_num_threads(1)
meter, block = BandwidthMeter(), torch.randn(1, 96_000) * 0.1
for _ in range(50):
    meter.push(block)
before = resident()
for _ in range(450):
    meter.push(block)
print(resident() - before)
"""


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float16])
def test_rows_are_what_was_appended(dtype, shape):
    generator = np.random.default_rng(0)
    rows, parts = Rows(dtype, *shape), [np.zeros((0, *shape), dtype)]
    for count in (0, 1, 5, FIRST - 6, 1, 3 * FIRST, 2):
        parts.append(generator.integers(0, 2, (count, *shape)).astype(dtype))
        rows.append(parts[-1])
        expected = np.concatenate(parts)
        assert rows.all.dtype == dtype and rows.nbytes == expected.nbytes
        np.testing.assert_array_equal(rows.all, expected)


def test_few_arrays_are_made():
    rows, arrays = Rows(np.uint8, 2), []  # kept, so that no address is used again
    for _ in range(1_000):
        rows.append(np.zeros((100, 2), np.uint8))
        base = rows.all.base
        assert base is not None  # a view
        if not arrays or base is not arrays[-1]:
            arrays.append(base)
    assert len(arrays) == 6  # of 4,096 rows, and five times twice as many


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_measuring_a_quarter_of_an_hour_takes_little_memory():
    """15 minutes more: 7 MiB; 130 MiB with an array for each block of 2 s."""
    made = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert int(made.stdout) < 30
