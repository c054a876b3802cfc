"""Memory that is freed is the system's again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
import psutil
from app_custom.aggregation.malloc import return_freed_memory

if sys.argv[1] == "fixed":
    assert return_freed_memory()
del_me = np.ones(31 << 17)  # glibc sees a large block freed, and keeps the next ones of that size
del del_me
before = psutil.Process().memory_info().rss
blocks, between = [], []
for _ in range(20):
    blocks.append(np.ones(1 << 20))
    between.append(np.ones(1 << 13))  # lies above the block, so that it cannot be trimmed
del blocks
print((psutil.Process().memory_info().rss - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps blocks this way")
def test_freed_arrays_leave_the_process_and_without_it_they_do_not() -> None:
    def left(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert left("as it was") > 100  # of 160 MiB
    assert left("fixed") < 10
