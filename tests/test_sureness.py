"""How sure what was seen makes one, where little changes."""

import numpy as np
import pytest

from tools.findings.contrast import Contrast, Quantity
from tools.findings.sureness import features


@pytest.mark.parametrize("changed", range(7))
def test_what_changes_little_is_as_sure_as_the_test_that_decides(changed):
    # The chance that a second sample passes falls with what changes: surely above half for none, below for what barely passes.
    values = np.zeros(128)
    values[:changed] = 1
    stay = Contrast(
        "effect", "stay", 0.097, (Quantity("accuracy", "share", values, (-1.0, 1.0)),), tuple(map(str, range(128)))
    )
    seen = features([stay], 0.00625)
    assert (seen.replication > 0.5) == (stay.p() < 0.00625)
    assert seen.stays == 1
    if changed == 0:
        assert seen.replication > 0.9
    if changed >= 4:
        assert seen.replication < 0.6 * seen.power or seen.replication < seen.power - 0.15
