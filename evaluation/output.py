"""The files an evaluation leaves behind: scores, DET plot and JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation import plots
from evaluation.assessment import Assessment
from evaluation.metrics import Sweep

SCORES = "scores.tsv.gz"


def write(folder: Path, assessment: Assessment, yardstick: Assessment | None) -> None:
    """`det.png`, `scores.tsv.gz` and `evaluation.json` in `folder`, made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    systems = [assessment, *([yardstick] if yardstick else [])]
    sweeps = {system.system: sweep(system) for system in systems}
    plots.det(sweeps).savefig(folder / "det.png", dpi=150)
    write_scores(folder / SCORES, assessment)
    document = {"systems": [summary(system) for system in systems], "scores": SCORES}
    (folder / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n")


def sweep(assessment: Assessment) -> Sweep:
    """The sweep of all cosines of an assessment."""
    cosine, target = assessment.scored.measures.cosine, assessment.scored.trials.target
    return Sweep.of(cosine[target], cosine[~target])


def summary(assessment: Assessment) -> Mapping[str, Any]:
    """An assessment without its trials, as JSON has it."""
    scored = assessment.scored
    return {
        "system": assessment.system,
        "data_digest": assessment.data_digest,
        "unscored_trials": scored.unscored,
        "failure_to_enrol": scored.failure_to_enrol,
        "failure_to_acquire": scored.failure_to_acquire,
        "groups": {name: asdict(figures) for name, figures in assessment.groups.items()},
    }


def write_scores(path: Path, assessment: Assessment) -> None:
    """Rows `enrol test target|nontarget cosine [llr]`, tab-separated, best compressed."""
    scored, llr = assessment.scored, assessment.llr
    trials = scored.trials
    models = [model.name for model in trials.models]
    clips = [clip.name for clip in trials.clips]
    truth = ("nontarget", "target")
    names = zip(trials.enrol.tolist(), trials.test.tolist(), trials.target.tolist(), strict=True)
    ratios = ["" for _ in range(len(trials))] if llr is None else [f"\t{x:.6g}" for x in llr]
    cosines = scored.measures.cosine.tolist()
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as stream:
        stream.writelines(
            f"{models[enrol]}\t{clips[test]}\t{truth[target]}\t{cosine:.7g}{ratio}\n"
            for (enrol, test, target), cosine, ratio in zip(names, cosines, ratios, strict=True)
        )
