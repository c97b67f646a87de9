"""Where padding stands."""

import pytest

LENGTH = 8


BEFORE, AFTER = (3, 0), (0, 3)


paddings = pytest.mark.parametrize(
    "padding", [(0, 0), BEFORE, AFTER], ids=["none", "left", "right"]
)
