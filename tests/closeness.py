"""How far apart computed numbers are, whatever processor computed them.

Two processors, two batch sizes or two ways round the same sum differ by rounding, and rounding
grows with the numbers: float32 keeps seven digits, of 0.001 as of 1000. So tests compare with the
numbers' own size, not with a fixed 1e-5, and leave room between what rounding does and what a
mistake does. What is exact by construction (whole numbers, copies, the same computation twice) is
compared with `torch.equal`.
"""

import numpy as np
import torch

# what comes of float32 and a few blocks is this close: rounding makes 1e-7 to 1e-5 of it, a mistake
# 1e-2 and more
SAME = 1e-4
OTHER = 1e-2  # and this far apart where it is meant to differ


def apart(one, other) -> float:
    """The largest difference of two arrays of one shape, as a share of their size: the larger one's
    root mean square.

    Computed in float64. `other` may be a number. 0 for two arrays of zeros; infinite where either
    holds what is not finite.
    """
    one, other = (
        each.detach().cpu().double() if isinstance(each, torch.Tensor) else each
        for each in (one, other)
    )
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert one.shape == other.shape or not other.shape, f"shapes {one.shape} and {other.shape}"
    assert one.size, "nothing to compare"
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    size = max(np.sqrt(np.mean(each**2)) for each in (one, other))
    return float(np.abs(one - other).max() / size) if size else 0.0
