"""The high-water resident set of this process: everything it ever held in RAM at once, Python and libraries included.

It is the operating system's figure, in pages, and not the same from run to run. Imports no torch.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def high_water_bytes() -> int:
    """Bytes.

    On Linux from /proc where that has it: `getrusage` reports the parent's high water in a child that never was as
    large, as it is inherited over fork and exec.
    """
    if sys.platform == "linux":
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    if os.name == "posix":
        import resource

        high_water = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return high_water if sys.platform == "darwin" else high_water * 1024
    import psutil

    return int(psutil.Process().memory_info().peak_wset)
