"""Memory of a process that trains on a CPU."""

import ctypes
import os

import torch

# Parameters of mallopt(3) in the C library of GNU.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST = 2**31 - 1  # bytes, of the type int

# A user who sets one of these has chosen how memory is allocated.
CHOICES = ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory(device: torch.device) -> bool:
    """Tells the C library to keep freed tensors for the next step instead of returning them to the system.

    By default glibc returns every tensor above 32 MB at once. The next step gets it back as new pages, and each page
    costs a fault. The peak of memory stays nearly the same, but the process keeps it until it ends.

    Args:
        device: Device of the training. Other devices than the CPU have an allocator of their own.

    Returns:
        True where it took effect: a CPU, glibc, and no setting of the allocator in the environment.

    Example:
        >>> import torch
        >>> from clippo.training.memory import keep_freed_memory
        >>> keep_freed_memory(torch.device("cuda"))
        False
    """
    if device.type != "cpu" or any(os.environ.get(name) for name in CHOICES):
        return False
    try:
        libc = ctypes.CDLL(None)
    except TypeError:  # Windows has no C library without a name
        return False
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(M_MMAP_MAX, 0), libc.mallopt(M_TRIM_THRESHOLD, LARGEST)])


__all__ = ["keep_freed_memory"]
