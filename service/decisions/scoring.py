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
_STANDINGS_KEPT = 16_384


@dataclass(frozen=True, slots=True)
class Measures:
    """One comparison as the calibration sees it.

    `score` is the cosine, -1..1, or that after adaptive S-norm; net speech is in seconds on either
    side, `snr_db` of the test side.
    """

    score: float
    enrol_speech_s: float
    test_speech_s: float
    snr_db: float


UNKNOWN_SNR_DB = 20.0
"""Stands for a signal-to-noise ratio that could not be estimated: that of an ordinary call."""


def _log_speech(seconds: float) -> float:
    return math.log(min(max(seconds, _SPEECH_RANGE_S[0]), _SPEECH_RANGE_S[1]))


TERMS: Mapping[str, Callable[[Measures], float]] = {
    "cosine": lambda m: m.score,
    "log_enrol_speech": lambda m: _log_speech(m.enrol_speech_s),
    "log_test_speech": lambda m: _log_speech(m.test_speech_s),
    "cosine_log_enrol_speech": lambda m: m.score * _log_speech(m.enrol_speech_s),
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
    by net speech `(n,)` in seconds, L2-normalised."""
    return l2_normalized(speech_s @ vectors)


def cosine(left: Vector, right: Vector) -> float:
    """Cosine of two L2-normalised vectors `(dim,)`, clipped to -1..1 against rounding."""
    return min(max(float(left @ right), -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """Mean and deviation of a voice's highest cosines with the cohort. The default is for where
    there is none: it leaves a cosine as it is."""

    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, similarity: float) -> float:
        """A cosine of this voice, in deviations from the mean."""
        return (similarity - self.mean) / self.deviation


NO_COHORT = Standing()


def standings(vectors: Vector, cohort: Vector, top_n: int) -> tuple[Floats, Floats]:
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

    Adaptive S-norm (Matejka et al. 2017) is the mean of what a cosine is to either side, each
    standing where its nearest in the cohort leave it. The standings of the latest voices are kept,
    by digest, so that those compared again and again are found once.
    """

    def __init__(self, contract: Contract) -> None:
        """Raises `ContractError` for a calibration by which poor quality would help."""
        if contract.calibration is not None:
            contract.calibration.require_fair_quality()
        self._calibration = contract.calibration
        self._window_s = contract.window_s
        self._cohort, self._top_n = _cohort(contract)
        self._kept: OrderedDict[bytes, Standing] = OrderedDict()

    @property
    def normalises(self) -> bool:
        """Whether the score is normalised by a cohort."""
        return self._cohort is not None

    def log_ratio(
        self,
        enrolled: Vector,
        heard: Vector,
        *,
        enrol_speech_s: float,
        test_speech_s: float,
        snr_db: float | None,
    ) -> float:
        """Natural-log likelihood ratio of two unit vectors `(dim,)`; needs a calibration."""
        similarity = cosine(enrolled, heard)
        score = (self.standing(enrolled)(similarity) + self.standing(heard)(similarity)) / 2
        return self.ratio(score, enrol_speech_s, test_speech_s, snr_db)

    def coherence_ratio(self, embedding: Vector, coherence: float) -> float:
        """That of two windows of a recording, on average, from their mean cosine and the unit
        embedding `(dim,)` of all, which stands for each of them before the cohort; needs a
        calibration."""
        score = self.standing(embedding)(coherence)
        return self.ratio(score, self._window_s, self._window_s, None)

    def parts_ratio(self, embedding: Vector, parts: Parts, speech_s: float) -> float:
        """Natural-log likelihood ratio of the two parts of a recording; `embedding (dim,)` stands
        for both before the cohort, `speech_s` is of both. Needs a calibration."""
        score = self.standing(embedding)(parts.cosine)
        return self.ratio(score, parts.share * speech_s, (1 - parts.share) * speech_s, None)

    def standing(self, vector: Vector) -> Standing:
        """Of a vector `(dim,)`."""
        if self._cohort is None:
            return NO_COHORT
        digest = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
        if (found := self._kept.pop(digest, None)) is None:
            (mean,), (deviation,) = standings(vector[None, :], self._cohort, self._top_n)
            found = Standing(float(mean), float(deviation))
        self._kept[digest] = found
        if len(self._kept) > _STANDINGS_KEPT:
            self._kept.popitem(last=False)
        return found

    def standings(self, vectors: Vector) -> list[Standing]:
        """Of many vectors `(n, dim)`, kept by the caller; may be called from any thread."""
        if self._cohort is None:
            return [NO_COHORT] * len(vectors)
        found = standings(vectors, self._cohort, self._top_n)
        return [Standing(*map(float, one)) for one in zip(*found, strict=True)]

    def normalised(self, cosines: Vector, rows: Vector, columns: Vector) -> Floats:
        """Scores `(r, c)` from the cosines of `rows (r, dim)` with `columns (c, dim)`; may be
        called from any thread."""
        if self._cohort is None:
            return cosines.astype(np.float64)
        left_mean, left_deviation = standings(rows, self._cohort, self._top_n)
        right_mean, right_deviation = standings(columns, self._cohort, self._top_n)
        from_left = (cosines - left_mean[:, None]) / left_deviation[:, None]
        scores: Floats = (from_left + (cosines - right_mean) / right_deviation) / 2
        return scores

    def ratio(
        self, score: float, enrol_speech_s: float, test_speech_s: float, snr_db: float | None
    ) -> float:
        """Natural-log likelihood ratio of a score; needs a calibration."""
        assert self._calibration is not None, "the caller checks that there is a calibration"
        known_snr_db = UNKNOWN_SNR_DB if snr_db is None else snr_db
        measures = Measures(score, enrol_speech_s, test_speech_s, known_snr_db)
        return log_likelihood_ratio(self._calibration, measures)


def _cohort(contract: Contract) -> tuple[Vector | None, int]:
    """The vectors `(c, dim)` to normalise by, and how many; none where the calibration is fitted
    on cosines."""
    calibration, cohort = contract.calibration, contract.cohort
    if calibration is None or cohort is None or calibration.score is ScoreKind.COSINE:
        return None, 0
    return cohort_vectors(cohort), cohort.top_n
