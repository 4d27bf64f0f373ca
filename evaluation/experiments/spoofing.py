"""How well a countermeasure tells bona fide speech from spoofed, alone and with verification.

key, scores ─> ScoredClips ─> by attack, by group of bona fide speakers ─> a row of figures each
                   └─ comparisons of a speaker model ─> a-DCF, t-EER
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError
from evaluation.metrics import bayes_threshold
from evaluation.metrics.bootstrap import percentile_interval
from evaluation.metrics.spoofing import (
    BONA_FIDE_PRIOR,
    COST_FA,
    COST_MISS,
    CountermeasureFigures,
    bootstrap,
    concurrent_t_eer,
    measure_countermeasure,
    min_a_dcf,
)
from evaluation.trials.spoof_keys import NONTARGET, SPOOF, TARGET, Comparison, KeyedClip

FEWEST = 10  # clips of a group that gets a row
GROUPS = ("language", "gender", "age")
ALL = "all"


@dataclass(frozen=True, slots=True)
class ScoredClips:
    """Clips with the countermeasure's `scores` (n,), higher for bona fide, and the `thresholds`
    (n,) below which an alarm is raised."""

    clips: tuple[KeyedClip, ...]
    scores: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @property
    def alarms(self) -> NDArray[np.bool_]:
        return self.scores < self.thresholds

    @property
    def bona_fide(self) -> NDArray[np.bool_]:
        return np.array([clip.bona_fide for clip in self.clips])

    @property
    def attacks(self) -> list[str]:
        return sorted({clip.attack for clip in self.clips if clip.attack is not None})

    def select(self, keep: NDArray[np.bool_]) -> ScoredClips:
        rows = np.flatnonzero(keep)
        clips = tuple(self.clips[row] for row in rows)
        return ScoredClips(clips, self.scores[rows], self.thresholds[rows])


@dataclass(frozen=True, slots=True)
class AttackRow:
    """Figures of all bona fide clips against those of one attack, and the share of it that is
    `missed` at the threshold; `intervals` has 95% intervals over speakers by the figure's name."""

    attack: str
    bona_fide: int
    spoofed: int
    figures: CountermeasureFigures
    missed: float
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """False alarms on the bona fide clips of a group, and the 95% interval over speakers."""

    group: str
    value: str
    clips: int
    speakers: int
    false_alarms: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tandem:
    """Countermeasure and verification together, (low, estimate, high) each."""

    a_dcf: tuple[float, float, float]
    a_dcf_of_verification: tuple[float, float, float]
    t_eer: tuple[float, float, float]
    trials: Mapping[str, int]

    @property
    def figures(self) -> dict[str, tuple[float, float, float]]:
        return {
            "a-DCF": self.a_dcf,
            "a-DCF of verification alone": self.a_dcf_of_verification,
            "t-EER": self.t_eer,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is measured in one condition."""

    attacks: tuple[AttackRow, ...]
    alarms: tuple[AlarmRow, ...]
    tandem: Tandem | None

    def describe(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return asdict(self)


def measure(
    clips: Sequence[KeyedClip],
    scores: Mapping[str, float],
    comparisons: Sequence[Comparison] | None = None,
    *,
    thresholds: Mapping[str, float],
    replicates: int,
    seed: int,
) -> Findings:
    """Measure the clips of a key by their scores, and the tandem if there are comparisons.

    `thresholds` are by the clip's name.
    """
    scored = join(clips, scores, thresholds)
    tandem = None
    if comparisons is not None:
        tandem = measure_tandem(scored, comparisons, replicates=replicates, seed=seed)
    return Findings(
        tuple(measure_attacks(scored, replicates=replicates, seed=seed)),
        tuple(measure_alarms(scored, replicates=replicates, seed=seed)),
        tandem,
    )


def cross_fit_thresholds(
    clips: Sequence[KeyedClip],
    conditions: Sequence[Mapping[str, float]],
    shares: Sequence[float],
) -> dict[str, float]:
    """For each clip, the threshold that alarms at most so large a share of the other speakers'
    bona fide clips in each condition.

    The speakers are halved by a hash of their names, and each half is given what the other half's
    scores say, so that no clip is judged by a threshold that it took part in choosing.
    """
    halves = {clip.name: hashlib.sha256(clip.speaker.encode()).digest()[0] % 2 for clip in clips}
    found = []
    for other in (1, 0):
        names = [clip.name for clip in clips if clip.bona_fide and halves[clip.name] == other]
        if not names:
            raise EvaluationError("thresholds take bona fide clips of more speakers")
        found.append(
            min(
                float(np.quantile([scores[name] for name in names], share, method="lower"))
                for scores, share in zip(conditions, shares, strict=True)
            )
        )
    return {name: found[half] for name, half in halves.items()}


def join(
    clips: Sequence[KeyedClip], scores: Mapping[str, float], thresholds: Mapping[str, float]
) -> ScoredClips:
    """Pair each clip of the key with its score; EvaluationError if one has none."""
    require_scores(clips, scores)
    names = [clip.name for clip in clips]
    return ScoredClips(
        tuple(clips),
        np.array([scores[name] for name in names]),
        np.array([thresholds[name] for name in names]),
    )


def require_scores(clips: Sequence[KeyedClip], scores: Mapping[str, float]) -> None:
    """Raise EvaluationError if a clip has no score."""
    lacking = [clip.name for clip in clips if clip.name not in scores]
    if lacking:
        raise EvaluationError(
            f"{len(lacking)} of {len(clips)} clips have no score, the first is {lacking[0]}"
        )


def measure_attacks(scored: ScoredClips, *, replicates: int, seed: int) -> Iterator[AttackRow]:
    """A row of all attacks pooled, then one for each."""
    genuine = scored.bona_fide
    for attack in (ALL, *scored.attacks):
        of_attack = np.array([attack in (ALL, clip.attack) for clip in scored.clips])
        chosen = scored.select(genuine | of_attack)
        yield _measure_attack(attack, chosen, replicates=replicates, seed=seed)


def _measure_attack(attack: str, scored: ScoredClips, *, replicates: int, seed: int) -> AttackRow:
    genuine = scored.bona_fide

    def measure(rows: NDArray[np.intp]) -> CountermeasureFigures:
        own = genuine[rows]
        return measure_countermeasure(scored.scores[rows][own], scored.scores[rows][~own])

    figures = measure(np.arange(len(genuine)))
    draws = bootstrap(
        lambda rows: astuple(measure(rows)),
        [clip.speaker for clip in scored.clips],
        replicates=replicates,
        rng=np.random.default_rng(seed),
    )
    intervals = {
        name: _bounds(draws[:, place] if len(draws) else draws, value)
        for place, (name, value) in enumerate(asdict(figures).items())
    }
    missed = float((~scored.alarms[~genuine]).mean())
    counts = int(genuine.sum()), int((~genuine).sum())
    return AttackRow(attack, *counts, figures, missed, intervals)


def measure_alarms(scored: ScoredClips, *, replicates: int, seed: int) -> Iterator[AlarmRow]:
    """False alarms of all bona fide clips, then by language, gender and age where known."""
    genuine = scored.select(scored.bona_fide)
    for group in (ALL, *GROUPS):
        values = [clip.labels.get(group, "") for clip in genuine.clips]
        for value in [""] if group == ALL else sorted(set(values) - {""}):
            own = np.array([group == ALL or found == value for found in values])
            if own.sum() >= FEWEST:
                yield _measure_alarm(
                    group, value, genuine.select(own), replicates=replicates, seed=seed
                )


def _measure_alarm(
    group: str, value: str, own: ScoredClips, *, replicates: int, seed: int
) -> AlarmRow:
    alarms = own.alarms
    speakers = [clip.speaker for clip in own.clips]
    rate = float(alarms.mean())
    draws = bootstrap(
        lambda rows: float(alarms[rows].mean()),
        speakers,
        replicates=replicates,
        rng=np.random.default_rng(seed),
    )
    bounds = _bounds(draws, rate)
    return AlarmRow(group, value, len(speakers), len(set(speakers)), rate, bounds)


def measure_tandem(
    scored: ScoredClips, comparisons: Sequence[Comparison], *, replicates: int, seed: int
) -> Tandem:
    """The a-DCF of a cascade, a-DCF of verification alone, and concurrent t-EER.

    The cascade gives clips that raise an alarm the lowest score of all, so that no threshold of
    the verification accepts them. Intervals draw claimed speakers.
    """
    rows_by_name = {clip.name: row for row, clip in enumerate(scored.clips)}
    lacking = {trial.name for trial in comparisons} - rows_by_name.keys()
    if lacking:
        raise EvaluationError(f"{len(lacking)} compared clips have no score: {min(lacking)}")
    truth = np.array([trial.truth for trial in comparisons])
    asv = np.array([trial.score for trial in comparisons])
    compared = [rows_by_name[trial.name] for trial in comparisons]
    cm = scored.scores[compared]
    gated = np.where(scored.alarms[compared], asv.min() - 1.0, asv)
    speakers = [trial.claimed for trial in comparisons]

    def split(values: NDArray[np.float64], rows: NDArray[np.intp]) -> _Classes:
        drawn, names = values[rows], truth[rows]
        return drawn[names == TARGET], drawn[names == NONTARGET], drawn[names == SPOOF]

    def t_eer(rows: NDArray[np.intp]) -> float:
        target, nontarget, spoof = zip(split(cm, rows), split(asv, rows), strict=True)
        return concurrent_t_eer(target, nontarget, spoof, thresholds=500)

    def estimate(figure: Callable[[NDArray[np.intp]], float]) -> tuple[float, float, float]:
        value = figure(np.arange(len(truth)))
        draws = bootstrap(figure, speakers, replicates=replicates, rng=np.random.default_rng(seed))
        low, high = _bounds(draws, value)
        return low, value, high

    names, counts = np.unique(truth, return_counts=True)
    return Tandem(
        estimate(lambda rows: min_a_dcf(*split(gated, rows))),
        estimate(lambda rows: min_a_dcf(*split(asv, rows))),
        estimate(t_eer),
        dict(zip(names.tolist(), counts.tolist(), strict=True)),
    )


_Classes = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def default_threshold() -> float:
    """The natural-log likelihood ratio below which ASVspoof 5's costs reject."""
    return bayes_threshold(BONA_FIDE_PRIOR, COST_MISS, COST_FA)


def _bounds(draws: NDArray[np.float64], value: float) -> tuple[float, float]:
    interval = percentile_interval(draws, value)
    return (value, value) if interval is None else (interval.low, interval.high)
