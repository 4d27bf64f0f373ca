"""What a calibration sees of each trial: the score, and the quality of both sides.

The vectorized counterpart of `service.decisions.scoring.TERMS`, for a million trials at once; a
test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPEECH_RANGE_S = (0.25, 60.0)
SNR_RANGE_DB = (0.0, 40.0)


@dataclass(frozen=True, slots=True)
class Measures:
    """Cosine, net speech in seconds of each side, and `snr_db` of the test side, (n,) each."""

    cosine: Floats
    enrol_speech_s: Floats
    test_speech_s: Floats
    snr_db: Floats

    def __len__(self) -> int:
        return len(self.cosine)

    @classmethod
    def join(cls, parts: Sequence[Measures]) -> Measures:
        """Concatenate the trials of all `parts`."""
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            )
        )

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Measures:
        return Measures(
            self.cosine[keep],
            self.enrol_speech_s[keep],
            self.test_speech_s[keep],
            self.snr_db[keep],
        )


def make_design_matrix(measures: Measures, terms: Sequence[str]) -> Floats:
    """One column for each of `terms`, as `service.decisions.scoring.TERMS` defines them."""
    return np.stack([_TERMS[term](measures) for term in terms], axis=1)


def _log_speech(seconds: Floats) -> Floats:
    return np.log(np.clip(seconds, *SPEECH_RANGE_S))


_TERMS: Mapping[str, Callable[[Measures], Floats]] = {
    "cosine": lambda m: m.cosine,
    "log_enrol_speech": lambda m: _log_speech(m.enrol_speech_s),
    "log_test_speech": lambda m: _log_speech(m.test_speech_s),
    "cosine_log_enrol_speech": lambda m: m.cosine * _log_speech(m.enrol_speech_s),
    "cosine_log_test_speech": lambda m: m.cosine * _log_speech(m.test_speech_s),
    "snr": lambda m: np.clip(m.snr_db, *SNR_RANGE_DB) / 10,
}
