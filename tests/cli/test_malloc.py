"""The command line keeps the memory that it frees: the same pages serve the next tensor."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from lily.cli.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(12 << 20, np.float64)  # 96 MiB, more than glibc ever keeps
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(12 << 20, np.float64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str, **environment: str) -> int:
    command = [sys.executable, "-c", SCRIPT, mode]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), **environment}
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again_unless_the_user_has_chosen():
    returned = page_faults("return")
    assert page_faults("keep") < returned / 10
    assert page_faults("keep", MALLOC_MMAP_THRESHOLD_="131072") > returned / 2
