"""The command line keeps the memory that it frees: the same pages serve the next tensor."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, threading
import numpy as np
from lily.cli.malloc import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
SIZE = 4 << 20 if "thread" in sys.argv else 12 << 20  # 96 MiB is more than glibc ever keeps
np.ones(SIZE, np.float64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(5):
        np.ones(SIZE, np.float64)
if "thread" in sys.argv:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*mode: str, **environment: str) -> int:
    command = [sys.executable, "-c", SCRIPT, *mode]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), **environment}
    return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again_unless_the_user_has_chosen():
    returned = page_faults("return")
    assert page_faults("keep") < returned / 10
    assert page_faults("keep", MALLOC_MMAP_THRESHOLD_="131072") > returned / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_thread_uses_what_another_has_freed():
    script = ("keep", "thread")
    assert page_faults(*script) < page_faults(*script, MALLOC_ARENA_MAX="8") / 5
