"""How the C library gives memory back while a training runs."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BLOCK_BYTES = 8 * 2**20
_KEPT_BYTES = 64 * 2**20


def keep_memory_flat() -> None:
    """Let glibc give large blocks back as soon as they are freed.

    The features of a batch's boxes are blocks of many megabytes, of another size in each step. Left alone, glibc soon
    takes blocks of up to 32 MiB from its heap, where they leave gaps that later ones do not fit into: memory grows with
    the number of steps. Numbers do not depend on it. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
