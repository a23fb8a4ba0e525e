from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import resource
import sys
from ofa_core.nn.allocator import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def fill():
    block = bytearray(48 << 20)
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_page_faults_stop():
    faults = [
        int(subprocess.run([sys.executable, "-c", _CODE, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keep", "default")
    ]
    assert faults[0] < faults[1] / 10
