"""What a processor is told once, before work begins: keep memory, and take numbers next to zero for zero."""

import ctypes
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def tune() -> None:
    """Both of the below; to be called before the first tensor is made, by every command and process that computes."""
    keep_memory()
    flush_denormals()


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


def flush_denormals() -> bool:
    """Takes float32 numbers below 1.2e-38 for zero in this thread and those it starts; returns whether it can.

    The gradient of a log-sum-exp is a softmax: where the scores of negatives lie 88 nats below the largest, as those
    of a critic of 2048 units do from the first step on, its entries are such numbers, with which products are up to a
    hundred times slower. Threads that are there already are not told, and PyTorch starts its own with the first large
    operation: call it before.
    """
    return torch.set_flush_denormal(True)
