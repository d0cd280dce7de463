"""What a process is told for the libraries that it loads."""

import platform
import subprocess
import sys

import pytest

#: Page faults of making and dropping blocks of 64 MB.
FAULTS = """
import resource
import numpy as np
from mrisr.core.process import keep_freed_memory
{first}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2): np.ones(8 << 20)
before = faults()
for _ in range(4): np.ones(8 << 20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc's malloc")
def test_freed_memory_is_kept() -> None:
    """Without it every block is fetched anew; once glibc keeps such blocks by itself, it may go."""

    def counted(first: str) -> int:
        code = FAULTS.format(first=first)
        return int(subprocess.check_output([sys.executable, "-c", code], text=True))

    assert counted("keep_freed_memory()") < 20
    assert counted("") > 100, "pages may be of 2 MB"
