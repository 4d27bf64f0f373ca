"""The protocol of everything that changes a clip's audio before it is embedded."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class Treatment(Protocol):
    """Something done to the audio beforehand; the same for the same `key` and clip name."""

    @property
    def key(self) -> str: ...

    def __call__(self, name: str, samples: Samples, rate: int) -> Samples: ...
