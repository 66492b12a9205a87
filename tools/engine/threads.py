"""How torch's threads behave beside other programs; to be called before torch is imported."""

import os


def share_the_machine() -> None:
    """Let idle OpenMP threads sleep instead of spin, unless the user has said otherwise.

    On two cores that somebody else uses too, spinning made the same work several times slower; alone it gains nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
