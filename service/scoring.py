"""Scores: from two sets of embeddings to a calibrated log-likelihood ratio; pure functions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.contract import Calibration

_SPEECH_RANGE_S = (0.25, 60.0)
_SNR_RANGE_DB = (0.0, 40.0)


@dataclass(frozen=True, slots=True)
class Measures:
    """One comparison as the calibration sees it.

    `cosine` in -1..1, net speech in seconds on either side, `snr_db` of the test side.
    """

    cosine: float
    enrol_speech_s: float
    test_speech_s: float
    snr_db: float


UNKNOWN_SNR_DB = 20.0
"""Stands for a signal-to-noise ratio that could not be estimated: that of an ordinary call."""


def _log_speech(seconds: float) -> float:
    return math.log(min(max(seconds, _SPEECH_RANGE_S[0]), _SPEECH_RANGE_S[1]))


TERMS: Mapping[str, Callable[[Measures], float]] = {
    "cosine": lambda m: m.cosine,
    "log_enrol_speech": lambda m: _log_speech(m.enrol_speech_s),
    "log_test_speech": lambda m: _log_speech(m.test_speech_s),
    "cosine_log_enrol_speech": lambda m: m.cosine * _log_speech(m.enrol_speech_s),
    "cosine_log_test_speech": lambda m: m.cosine * _log_speech(m.test_speech_s),
    "snr": lambda m: min(max(m.snr_db, _SNR_RANGE_DB[0]), _SNR_RANGE_DB[1]) / 10,
}
"""What a calibration may weigh, by the name its contract uses (quality measures as in
Garcia-Romero et al. 2004 and Mandasari et al. 2013)."""


def log_likelihood_ratio(calibration: Calibration, measures: Measures) -> float:
    """Natural log of P(score | same speaker) / P(score | different speakers)."""
    weighed = (weight * TERMS[name](measures) for name, weight in calibration.weights.items())
    return calibration.bias + sum(weighed)


def l2_normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit-length rows of `(..., dim)`; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit


def voice(vectors: NDArray[np.float32], speech_s: NDArray[np.float32]) -> NDArray[np.float32]:
    """The one vector `(dim,)` that stands for enrolled `vectors (n, dim)`: their mean, weighted
    by net speech `(n,)` in seconds, L2-normalised."""
    return l2_normalized(np.average(vectors, axis=0, weights=speech_s).astype(np.float32))


def cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Cosine of two L2-normalised vectors `(dim,)`, clipped to -1..1 against rounding."""
    return float(np.clip(np.dot(left, right), -1.0, 1.0))
