"""Ranking: how the voices of a group rank for one utterance, so that a search can compare them all
with a few operations on whole arrays."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.audio.quality import Quality
from service.contract import Calibration
from service.decisions.scoring import (
    TERMS,
    UNKNOWN_SNR_DB,
    CohortStatistics,
    Measures,
    log_likelihood_ratio,
)
from service.store import Voiceprint

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scale:
    """What one side of a comparison makes of its cosine: `gain * cosine - shift`."""

    gain: float
    shift: float


HALF = Scale(0.5, 0.0)
"""Two of them leave a cosine as it is."""


class Traits:
    """What a ranking has to know of each of some voices, (n,) each: the log of its net speech in
    seconds, and its scale."""

    def __init__(self, values: Vector) -> None:
        self.values = values  # (3, n)
        self.log_speech, self.gain, self.shift = values

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(self.values[:, rows])

    def put(self, row: int, log_speech: float, scale: Scale) -> None:
        self.values[:, row] = log_speech, scale.gain, scale.shift

    def get(self, row: int) -> tuple[float, Scale]:
        return float(self.log_speech[row]), Scale(float(self.gain[row]), float(self.shift[row]))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The log-likelihood ratio of a voice from its score and the log of its net speech in seconds:
    `offset + offset_speech * speech + score * (slope + slope_speech * speech)`.

    The score is the cosine or, if the query has a `scale`, what both sides make of it together.
    """

    offset: float
    offset_speech: float
    slope: float
    slope_speech: float
    scale: Scale | None = None

    def compute_llrs(self, cosines: Vector, traits: Traits) -> Vector:
        """Compute the llrs `(n,)` from `cosines (n,)` with as many voices."""
        scores = self._compute_scores(cosines, traits)
        llrs: Vector = scores * np.float32(self.slope_speech)
        llrs += np.float32(self.offset_speech)
        llrs *= traits.log_speech
        llrs += np.float32(self.offset)
        llrs += scores * np.float32(self.slope)
        return llrs

    def find_steepest(self, log_speech: tuple[float, float], max_gain: float) -> float:
        """Return how much an llr changes at most with the cosine, for any voice whose log of net
        speech is between the two of `log_speech` and whose gain is at most `max_gain`."""
        by_score = max(abs(self.slope + self.slope_speech * end) for end in log_speech)
        return by_score if self.scale is None else by_score * (max_gain + self.scale.gain)

    def _compute_scores(self, cosines: Vector, traits: Traits) -> Vector:
        if self.scale is None:
            return cosines
        scores: Vector = traits.gain + np.float32(self.scale.gain)
        scores *= cosines
        scores -= traits.shift
        scores -= np.float32(self.scale.shift)
        return scores


def make_ranking(calibration: Calibration, quality: Quality, scale: Scale | None = None) -> Ranking:
    """Make the ranking for test audio of this quality, from the calibration at four points: it is
    linear in the score, in the log of the enrollment's net speech, and in their product. `scale` is
    the test side's, if scores are normalized."""
    snr_db = UNKNOWN_SNR_DB if quality.snr_db is None else quality.snr_db

    def llr(score: float, log_speech: float) -> float:
        measures = Measures(score, math.exp(log_speech), quality.net_speech_s, snr_db)
        return log_likelihood_ratio(calibration, measures)

    offset, slope = llr(0, 0), llr(1, 0) - llr(0, 0)
    return Ranking(
        offset=offset,
        offset_speech=llr(0, 1) - offset,
        slope=slope,
        slope_speech=llr(1, 1) - llr(0, 1) - slope,
        scale=scale,
    )


def make_scale(statistics: CohortStatistics) -> Scale:
    """Make half of what a voice's statistics make of a cosine, so that two sides add up to the
    mean."""
    return Scale(0.5 / statistics.deviation, 0.5 * statistics.mean / statistics.deviation)


def log_enroll_speech(voiceprint: Voiceprint) -> float:
    """Return the log of an enrollment's net speech, as a calibration takes it."""
    return TERMS["log_enrol_speech"](Measures(0.0, float(voiceprint.speech_s.sum()), 0.0, 0.0))
