"""Scores: from two embeddings to a calibrated log-likelihood ratio.

cosine ─> adaptive S-norm, where the calibration was fitted on it ─> calibration ─> ratio
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
    """One comparison as the calibration sees it.

    `score` is the cosine, -1..1, or that after adaptive S-norm; net speech is in seconds on either
    side, `snr_db` of the test side.
    """

    score: float
    enroll_speech_s: float
    test_speech_s: float
    snr_db: float


UNKNOWN_SNR_DB = 20.0
"""Stands for a signal-to-noise ratio that could not be estimated: that of an ordinary call."""


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
    weighed = (weight * TERMS[name](measures) for name, weight in calibration.weights.items())
    return calibration.bias + sum(weighed)


def l2_normalized(vectors: Vector) -> Vector:
    """Unit-length rows of `(..., dim)`; a zero vector stays zero."""
    norms = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    unit: Vector = (vectors / np.maximum(norms, 1e-12)).astype(np.float32, copy=False)
    return unit


def voice(vectors: Vector, speech_s: Vector) -> Vector:
    """The one vector `(dim,)` that stands for enrolled `vectors (n, dim)`: their mean, weighted
    by net speech `(n,)` in seconds, L2-normalized."""
    return l2_normalized(speech_s @ vectors)


def cosine(left: Vector, right: Vector) -> float:
    """Cosine of two L2-normalized vectors `(dim,)`, clipped to -1..1 against rounding."""
    return min(max(float(left @ right), -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class CohortStatistics:
    """Mean and deviation of a voice's highest cosines with the cohort. The default, for models
    without a cohort, leaves a cosine as it is."""

    mean: float = 0.0
    deviation: float = 1.0

    def normalize(self, similarity: float) -> float:
        """A cosine of this voice, in deviations from the mean."""
        return (similarity - self.mean) / self.deviation


NO_COHORT = CohortStatistics()


def cohort_statistics(vectors: Vector, cohort: Vector, top_n: int) -> tuple[Floats, Floats]:
    """Means and deviations `(n,)` of the `top_n` highest cosines of each of `vectors (n, dim)` with
    `cohort (c, dim)`, in n * c * dim products."""
    cosines = vectors @ cohort.T  # (n, c)
    highest = np.partition(cosines, len(cohort) - top_n, axis=1)[:, len(cohort) - top_n :]
    deviations = highest.std(axis=1, dtype=np.float64)
    return highest.mean(axis=1, dtype=np.float64), np.maximum(deviations, LEAST_DEVIATION)


def cohort_vectors(cohort: Cohort) -> Vector:
    """The voices `(count, dim)` of a contract's cohort."""
    return np.frombuffer(cohort.vectors, "<f4").reshape(cohort.count, -1).astype(np.float32)


class Scorer:
    """Compares embeddings in the space of one model, by the score that its calibration names.

    Adaptive S-norm (Matejka et al. 2017) is the mean of the cosine as normalized by either side's
    nearest voices in the cohort. The statistics of the latest voices are cached by digest, so that
    a voice that is compared again and again is compared with the cohort once.
    """

    def __init__(self, contract: Contract) -> None:
        """Raises `ContractError` for a calibration by which poor quality would help."""
        if contract.calibration is not None:
            contract.calibration.require_fair_quality()
        self._calibration = contract.calibration
        self._window_s = contract.window_s
        self._cohort, self._top_n = _cohort(contract)
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
        """The llr of two unit vectors `(dim,)`; needs a calibration."""
        similarity = cosine(enrolled, probe)
        if self._cohort is None:
            return self.llr(similarity, enroll_speech_s, test_speech_s, snr_db)
        sides = (self.statistics(enrolled), self.statistics(probe))
        score = sum(side.normalize(similarity) for side in sides) / len(sides)
        return self.llr(score, enroll_speech_s, test_speech_s, snr_db)

    def coherence_llr(self, embedding: Vector, coherence: float) -> float:
        """The llr of two windows of a recording, on average, from their mean cosine; the unit
        `embedding (dim,)` of all stands for each of them before the cohort. Needs a calibration."""
        score = self.statistics(embedding).normalize(coherence)
        return self.llr(score, self._window_s, self._window_s, None)

    def parts_llr(self, embedding: Vector, parts: Parts, speech_s: float) -> float:
        """The llr of the two parts of a recording; `embedding (dim,)` stands for both before the
        cohort, `speech_s` is of both. Needs a calibration."""
        score = self.statistics(embedding).normalize(parts.cosine)
        return self.llr(score, parts.share * speech_s, (1 - parts.share) * speech_s, None)

    def statistics(self, vector: Vector) -> CohortStatistics:
        """Of a vector `(dim,)`."""
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
        """Of many vectors `(n, dim)`, not cached; may be called from any thread."""
        if self._cohort is None:
            return [NO_COHORT] * len(vectors)
        both = cohort_statistics(vectors, self._cohort, self._top_n)
        return [CohortStatistics(*map(float, one)) for one in zip(*both, strict=True)]

    def normalize(self, cosines: Vector, rows: Vector, columns: Vector) -> Floats:
        """Scores `(r, c)` from the cosines of `rows (r, dim)` with `columns (c, dim)`; may be
        called from any thread."""
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
        """The llr of a score; needs a calibration."""
        assert self._calibration is not None, "the caller checks that there is a calibration"
        known_snr_db = UNKNOWN_SNR_DB if snr_db is None else snr_db
        measures = Measures(score, enroll_speech_s, test_speech_s, known_snr_db)
        return log_likelihood_ratio(self._calibration, measures)


def _cohort(contract: Contract) -> tuple[Vector | None, int]:
    """The vectors `(c, dim)` to normalise by, and how many; none where the calibration is fitted
    on cosines."""
    calibration, cohort = contract.calibration, contract.cohort
    if calibration is None or cohort is None or calibration.score is ScoreKind.COSINE:
        return None, 0
    return cohort_vectors(cohort), cohort.top_n
