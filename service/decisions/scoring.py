"""Scores: from two embeddings to a calibrated log-likelihood ratio.

cosine ─> adaptive S-norm, if the calibration was fitted on it ─> calibration ─> llr
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.voice_count import Parts

Vector: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]

LEAST_DEVIATION = 1e-6
_SPEECH_RANGE_S = (0.25, 60.0)
_SNR_RANGE_DB = (0.0, 40.0)
_STATISTICS_CACHED = 16_384


@dataclass(frozen=True, slots=True)
class Measures:
    """The inputs of a calibration for one comparison.

    `score` is the cosine, -1..1, with adaptive S-norm or without; net speech of both sides is in
    seconds, `snr_db` is the signal-to-noise ratio of the test side in decibels.
    """

    score: float
    enroll_speech_s: float
    test_speech_s: float
    snr_db: float


UNKNOWN_SNR_DB = 20.0
"""Used if the signal-to-noise ratio could not be estimated; it is that of an ordinary call."""


def _log_speech(seconds: float) -> float:
    return math.log(min(max(seconds, _SPEECH_RANGE_S[0]), _SPEECH_RANGE_S[1]))


TERMS: Mapping[str, Callable[[Measures], float]] = {
    "cosine": lambda m: m.score,
    "log_enrol_speech": lambda m: _log_speech(m.enroll_speech_s),
    "log_test_speech": lambda m: _log_speech(m.test_speech_s),
    "cosine_log_enrol_speech": lambda m: m.score * _log_speech(m.enroll_speech_s),
    "cosine_log_test_speech": lambda m: m.score * _log_speech(m.test_speech_s),
    "snr": lambda m: min(max(m.snr_db, _SNR_RANGE_DB[0]), _SNR_RANGE_DB[1]) / 10,
}
"""What a calibration may weigh, by the name its contract uses (quality measures as in
Garcia-Romero et al. 2004 and Mandasari et al. 2013)."""


def log_likelihood_ratio(calibration: Calibration, measures: Measures) -> float:
    """Natural log of P(score | same speaker) / P(score | different speakers)."""
    terms = (weight * TERMS[name](measures) for name, weight in calibration.weights.items())
    return calibration.bias + sum(terms)


def l2_normalize(vectors: Vector) -> Vector:
    """Scale the rows of `(..., dim)` to unit length; a zero vector stays zero."""
    norms = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    unit: Vector = (vectors / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
    return unit


def average_voice(vectors: Vector, speech_s: Vector) -> Vector:
    """Average enrolled `vectors (n, dim)` to one `(dim,)`: their mean, weighted by net speech
    `(n,)` in seconds, L2-normalized."""
    return l2_normalize(speech_s @ vectors)


def cosine(left: Vector, right: Vector) -> float:
    """Cosine of two L2-normalized vectors `(dim,)`, clipped to -1..1 against rounding."""
    return min(max(float(left @ right), -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class CohortStatistics:
    """Mean and standard deviation of a voice's highest cosines with the cohort. The default, for
    models without a cohort, leaves a cosine as it is."""

    mean: float = 0.0
    deviation: float = 1.0

    def normalize(self, similarity: float) -> float:
        """Express a cosine of this voice in standard deviations from the mean."""
        return (similarity - self.mean) / self.deviation


NO_COHORT = CohortStatistics()


def cohort_statistics(vectors: Vector, cohort: Vector, top_n: int) -> tuple[Floats, Floats]:
    """Means and standard deviations `(n,)` of the `top_n` highest cosines of each of
    `vectors (n, dim)` with `cohort (c, dim)`; takes n * c * dim products."""
    cosines = vectors @ cohort.T  # (n, c)
    highest = np.partition(cosines, len(cohort) - top_n, axis=1)[:, len(cohort) - top_n :]
    deviations = highest.std(axis=1, dtype=np.float64)
    return highest.mean(axis=1, dtype=np.float64), np.maximum(deviations, LEAST_DEVIATION)


def cohort_vectors(cohort: Cohort) -> Vector:
    """The voices `(count, dim)` of a contract's cohort."""
    return np.frombuffer(cohort.vectors, "<f4").reshape(cohort.count, -1).astype(np.float32)


class Scorer:
    """Compares embeddings of one model, by the score that its calibration names.

    Adaptive S-norm (Matejka et al. 2017) is the mean of two normalized cosines, one by the nearest
    cohort voices of either side. The statistics of the latest voices are cached by digest, so that
    a voice that is compared repeatedly is compared with the cohort once.
    """

    def __init__(self, contract: Contract) -> None:
        """Raise `ContractError` for a calibration that would raise llrs for poor quality."""
        if contract.calibration is not None:
            contract.calibration.require_fair_quality()
        self._calibration = contract.calibration
        self._window_s = contract.window_s
        self._cohort, self._top_n = _read_cohort(contract)
        self._cache: OrderedDict[bytes, CohortStatistics] = OrderedDict()

    @property
    def normalizes(self) -> bool:
        """Whether the score is normalized by a cohort."""
        return self._cohort is not None

    def compare(
        self,
        enrolled: Vector,
        probe: Vector,
        *,
        enroll_speech_s: float,
        test_speech_s: float,
        snr_db: float | None,
    ) -> float:
        """Return the llr of two unit vectors `(dim,)`; needs a calibration."""
        similarity = cosine(enrolled, probe)
        if self._cohort is None:
            return self.llr(similarity, enroll_speech_s, test_speech_s, snr_db)
        sides = (self.statistics(enrolled), self.statistics(probe))
        score = sum(side.normalize(similarity) for side in sides) / len(sides)
        return self.llr(score, enroll_speech_s, test_speech_s, snr_db)

    def coherence_llr(self, embedding: Vector, coherence: float) -> float:
        """Return the average llr of two windows of a recording, from their mean cosine. The unit
        vector `embedding (dim,)` of all windows represents each of them before the cohort. Needs a
        calibration."""
        score = self.statistics(embedding).normalize(coherence)
        return self.llr(score, self._window_s, self._window_s, None)

    def parts_llr(self, embedding: Vector, parts: Parts, speech_s: float) -> float:
        """Return the llr of the two parts of a recording. `embedding (dim,)` represents both before
        the cohort, `speech_s` is the net speech of both together. Needs a calibration."""
        score = self.statistics(embedding).normalize(parts.cosine)
        return self.llr(score, parts.share * speech_s, (1 - parts.share) * speech_s, None)

    def statistics(self, vector: Vector) -> CohortStatistics:
        """Return the cohort statistics of a vector `(dim,)`, cached."""
        if self._cohort is None:
            return NO_COHORT
        digest = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
        if (statistics := self._cache.pop(digest, None)) is None:
            (mean,), (deviation,) = cohort_statistics(vector[None, :], self._cohort, self._top_n)
            statistics = CohortStatistics(float(mean), float(deviation))
        self._cache[digest] = statistics
        if len(self._cache) > _STATISTICS_CACHED:
            self._cache.popitem(last=False)
        return statistics

    def all_statistics(self, vectors: Vector) -> list[CohortStatistics]:
        """Return the cohort statistics of `vectors (n, dim)`, not cached; thread-safe."""
        if self._cohort is None:
            return [NO_COHORT] * len(vectors)
        means, deviations = cohort_statistics(vectors, self._cohort, self._top_n)
        pairs = zip(means, deviations, strict=True)
        return [CohortStatistics(float(mean), float(deviation)) for mean, deviation in pairs]

    def normalize(self, cosines: Vector, rows: Vector, columns: Vector) -> Floats:
        """Compute scores `(r, c)` from the cosines of `rows (r, dim)` with `columns (c, dim)`;
        thread-safe."""
        if self._cohort is None:
            return cosines.astype(np.float64)
        left_mean, left_deviation = cohort_statistics(rows, self._cohort, self._top_n)
        right_mean, right_deviation = cohort_statistics(columns, self._cohort, self._top_n)
        from_left = (cosines - left_mean[:, None]) / left_deviation[:, None]
        scores: Floats = (from_left + (cosines - right_mean) / right_deviation) / 2
        return scores

    def llr(
        self, score: float, enroll_speech_s: float, test_speech_s: float, snr_db: float | None
    ) -> float:
        """Return the llr of a score; needs a calibration."""
        assert self._calibration is not None, "the caller checks that there is a calibration"
        snr_or_default_db = UNKNOWN_SNR_DB if snr_db is None else snr_db
        measures = Measures(score, enroll_speech_s, test_speech_s, snr_or_default_db)
        return log_likelihood_ratio(self._calibration, measures)


def _read_cohort(contract: Contract) -> tuple[Vector | None, int]:
    """Return the vectors `(c, dim)` to normalize by and how many of them to use, or None if the
    calibration was fitted on plain cosines."""
    calibration, cohort = contract.calibration, contract.cohort
    if calibration is None or cohort is None or calibration.score is ScoreKind.COSINE:
        return None, 0
    return cohort_vectors(cohort), cohort.top_n
