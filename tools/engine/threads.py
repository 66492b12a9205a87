"""How torch's threads and memory behave beside other programs; to be called before torch is imported."""

import ctypes
import os

TRIM, MMAP, ARENAS = -1, -3, -8  # of glibc's mallopt


def share_the_machine() -> None:
    """Let idle OpenMP threads sleep instead of spin, and keep freed memory for the next tensor, unless the user has said otherwise.

    On two cores that somebody else uses too, spinning made the same work several times slower; alone it gains nothing. The C
    library gives every large tensor back to the system when it is freed, and the next one is then zeroed page by page: in
    blocks of width 256 that was a quarter of the time. Up to 256 MiB are kept; other C libraries are left as they are.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in ((MMAP, 32 * 2**20), (TRIM, 256 * 2**20), (ARENAS, 1)):
        mallopt(option, value)
