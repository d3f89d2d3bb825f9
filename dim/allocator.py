"""Memory kept instead of handed back: glibc's allocator tuned for tensors that come and go every step."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_memory() -> bool:
    """Tells glibc to serve large blocks from its heap and never to trim it; returns whether it was told.

    By default each large tensor is mapped and unmapped by the kernel, which has to zero every page again at every
    step: 20-30 % of a training step on a CPU. Costs nothing but memory that stays with the process. Elsewhere
    (other C libraries, macOS, Windows) it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, -1))
