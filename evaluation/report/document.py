"""The JSON document of an evaluation: everything that the report shows, but no trials.

`evaluation.json` is what reports are rendered from, and what `compare` overlays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.metrics import Sweep, fairness
from evaluation.report import assessment, breakdowns, held_out, worst
from evaluation.report.assessment import Assessment
from evaluation.scoring import calibration
from evaluation.trials import labels
from service.contract import Contract

Document = dict[str, Any]

SCHEMA = 1
NAME = "evaluation.json"
HISTOGRAM_BINS = 80
FAIR_RATE = 0.01
PRIORS = (0.05, 0.01)
BREAKDOWN_REPLICATES = 100


def make_head(seed: int, replicates: int, source: str, trials_made: str) -> Document:
    """The head of every document: how it was measured."""
    return {
        "schema": SCHEMA,
        "seed": seed,
        "replicates": replicates,
        "source": source,
        "trials_made": trials_made,
    }


def describe_run(command: str, time: datetime) -> Document:
    """Describe how a report came about: when, by which version, and with which command line."""
    return {"date": f"{time:%Y-%m-%d %H:%M %Z}", "version": version("sayso"), "command": command}


def describe_system(measured: Assessment) -> Document:
    """Describe one system: figures, DET curves with operating points, histogram, calibration."""
    target = measured.scored.trials.target
    sweep = Sweep.of(measured.scores[target], measured.scores[~target])
    return {
        "system": measured.system,
        "data_digest": measured.data_digest,
        "clips": len(measured.scored.trials.clips),
        "models": len(measured.scored.trials.models),
        "unscored_trials": measured.scored.unscored,
        "failure_to_enrol": measured.scored.failure_to_enrol,
        "failure_to_acquire": measured.scored.failure_to_acquire,
        "groups": measured.groups,
        "det": _det(sweep),
        "det_by_group": _det_by_group(measured),
        "points": _points(sweep),
        "histogram": _histogram(measured),
        "calibration": _calibration(measured),
    }


def describe_details(measured: Assessment, *, replicates: int, seed: int) -> Document:
    """Describe what only the evaluated model has: breakdowns, fairness, errors, promises."""
    few = min(replicates, BREAKDOWN_REPLICATES)
    divided = {
        name: assessment.measure_groups(measured, masks, replicates=few, seed=seed)
        for name, masks in breakdowns.break_down(measured.scored)
    }
    return {
        "breakdowns": {name: groups for name, groups in divided.items() if len(groups) > 1},
        "fairness": _fairness(measured, few, seed),
        "unlabelled": labels.measure_unlabeled(measured.scored.trials),
        "warnings": find_warnings(measured),
        "worst": {
            "false matches": worst.find_false_matches(measured.scored.trials, measured.scores),
            "false non-matches": worst.find_false_non_matches(
                measured.scored.trials, measured.scores
            ),
        },
        "held_out": _held_out(measured, max(few, 1), seed),
    }


def find_warnings(measured: Assessment) -> list[str]:
    """Sentences about what makes the figures doubtful."""
    sentences = []
    target = measured.scored.trials.target
    if measured.scores[target].mean() < measured.scores[~target].mean():
        negated = metrics.eer(Sweep.of(-measured.scores[target], -measured.scores[~target]))
        sentences.append(
            "Target trials score lower than non-target trials. Either the scores are distances"
            f" (negated, their EER is {negated:.2%}) or the labels are swapped."
        )
    if repeated := measured.scored.same_recording:
        sentences.append(
            f"{repeated:,} trials were left out: both sides are the same recording under two names."
        )
    return sentences


def describe_contract(contract: Contract) -> Document:
    """Describe the contract: everything except the cohort's vectors."""
    described = asdict(contract)
    if contract.cohort is not None:
        described["cohort"] = {"count": contract.cohort.count, "top_n": contract.cohort.top_n}
        described["cohort"]["source"] = contract.cohort.source
    return described


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write `document` as JSON; infinite and undefined numbers become null."""
    text = json.dumps(_to_json(document), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Document:
    """Read a document that `write` wrote; EvaluationError for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise EvaluationError(f"{path}: not a report of sayso-evaluate ({error})") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise EvaluationError(f"{path}: not a report of this version of sayso-evaluate")
    return document


def _det(sweep: Sweep, points: int = 400) -> Document:
    fmr, fnmr = metrics.det(sweep, points)
    return {"fmr": fmr, "fnmr": fnmr}


def _det_by_group(measured: Assessment) -> Document:
    target, scores = measured.scored.trials.target, measured.scores
    return {
        name: _det(Sweep.of(scores[keep & target], scores[keep & ~target]), 200)
        for name, keep in breakdowns.split_by_corpus(measured.scored).items()
        if name in measured.groups
    }


def _points(sweep: Sweep) -> list[Document]:
    rate = metrics.eer(sweep)
    points = [{"name": "EER", "fmr": rate, "fnmr": rate}]
    for prior in PRIORS:
        best = metrics.min_dcf_point(sweep, prior)
        points.append({"name": f"minDCF {prior:g}", **asdict(best)})
    fixed = metrics.point_at_fmr(sweep, FAIR_RATE)
    return [*points, {"name": f"FMR {FAIR_RATE:.0%}", **asdict(fixed)}]


def _histogram(measured: Assessment) -> Document:
    target = measured.scored.trials.target
    edges = np.histogram_bin_edges(measured.scores, HISTOGRAM_BINS)
    return {
        "edges": edges,
        "target": np.histogram(measured.scores[target], edges, density=True)[0],
        "nontarget": np.histogram(measured.scores[~target], edges, density=True)[0],
    }


def _calibration(measured: Assessment) -> Document | None:
    if measured.llr is None:
        return None
    target = measured.scored.trials.target
    sides = measured.sides
    speakers = (sides.speaker[sides.enrol], sides.speaker[sides.test])
    described: Document = {}
    for name, llr in (("before", measured.scores), ("after", measured.llr)):
        claimed, observed = calibration.measure_reliability(llr, target)
        cllr, least = calibration.measure_cllr(llr, target)
        described[name] = {
            "claimed": claimed,
            "observed": observed,
            "cllr": cllr,
            "min_cllr": least,
        }
        described[name]["cllr_of_pairs"] = calibration.measure_pair_weighted_cllr(
            llr, target, speakers
        )
    return described


def _fairness(measured: Assessment, replicates: int, seed: int) -> list[Document]:
    """A table for each demographic column, at the threshold of 1% FMR over all trials."""
    target = measured.scored.trials.target
    scores = measured.scores if measured.llr is None else measured.llr
    sweep = Sweep.of(scores[target], scores[~target])
    threshold = metrics.point_at_fmr(sweep, FAIR_RATE).threshold
    tables = []
    for column, groups in assessment.list_fairness_groups(measured.scored).items():
        rows = fairness.measure_groups(
            scores, target, measured.sides, groups, threshold, replicates=replicates, seed=seed
        )
        if len(rows) > 1:
            fmr, fnmr = fairness.measure_differentials(rows)
            tables.append({"by": column, "rows": rows, "fmr_ratio": fmr, "fnmr_ratio": fnmr})
    return tables


def _held_out(measured: Assessment, replicates: int, seed: int) -> Sequence[Any]:
    if measured.llr is None:
        return ()
    checks = held_out.check(
        measured.scored.measures,
        measured.scored.trials.target,
        measured.sides,
        terms=measured.terms,
        strata=_corpus_of_speakers(measured),
        replicates=replicates,
        seed=seed,
    )
    return [{**asdict(check), "holds": check.holds} for check in checks]


def _corpus_of_speakers(measured: Assessment) -> NDArray[np.intp]:
    """Number the corpus of each speaker of the sides, (speakers,)."""
    trials, sides = measured.scored.trials, measured.sides
    codes = np.unique([clip.corpus for clip in trials.clips], return_inverse=True)[1]
    strata = np.zeros(int(sides.speaker.max()) + 1, np.intp)
    strata[sides.speaker[sides.test]] = codes[trials.test]
    return strata


def _to_json(value: object) -> object:
    """Turn `value` into what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return _to_json({field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, Mapping):
        return {str(name): _to_json(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
