"""How near tensors are to each other."""

import numpy as np
from torch import Tensor


def assert_close(result: Tensor, wanted: Tensor, share: float = 1e-5) -> None:
    """Equal to within `share` of the largest wanted value."""
    assert result.shape == wanted.shape
    largest = float(wanted.abs().max())
    assert largest > 0
    assert float((result - wanted).abs().max()) <= share * largest


def correlation(first: Tensor, second: Tensor) -> float:
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])
