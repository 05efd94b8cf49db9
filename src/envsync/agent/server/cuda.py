"""What the NVIDIA driver of this server supports."""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
from typing import Optional

from envsync.agent.server.program_version import answer_of

_CUDA_MAJOR, _CUDA_MINOR = 1000, 10


def driver_cuda_version() -> Optional[str]:
    """Return the newest CUDA that the NVIDIA driver here supports, such as `12.4`, or "".

    If the driver's library is in an unusual place (WSL, containers), the version comes from
    `nvidia-smi`; None if that does not end.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libcuda.so.1")
        number = ctypes.c_int(0)
        # This needs no cuInit, and so no free device.
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value:
            minor = number.value % _CUDA_MAJOR // _CUDA_MINOR
            return f"{number.value // _CUDA_MAJOR}.{minor}"
    program = shutil.which("nvidia-smi")
    # The output of `-q` is long, and has the version in its first lines.
    output = "" if program is None else answer_of(program, "-q")
    if output is None:
        return None
    match = re.search(r"CUDA Version\s*:\s*(\d{1,4}\.\d{1,4})", output)
    return "" if match is None else match.group(1)
