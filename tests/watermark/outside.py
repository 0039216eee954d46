"""An edit from outside, as `--edit tests.watermark.outside:louder` names it."""

import numpy as np
from numpy.typing import NDArray


def louder(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    assert sample_rate == 16_000
    return (2 * samples).clip(-1, 1)
