"""The files an evaluation leaves behind in its folder.

evaluation.json   figures, curves and details       det.png   the DET plot
scores.tsv.gz     every trial and its scores         page.html   all of it, to look at
"""

from __future__ import annotations

import gzip
from pathlib import Path

from evaluation.report import document, page, plots
from evaluation.report.assessment import Assessment
from evaluation.report.document import Document

SCORES = "scores.tsv.gz"
DET = "det.png"
REPORT = "report.html"


def write(folder: Path, evaluation: Document, assessment: Assessment) -> None:
    """Write all four files into `folder`, created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder / SCORES, assessment)
    document.write(folder / document.NAME, {**evaluation, "scores": SCORES})
    render(folder)


def write_extra(folder: Path, name: str, extra: Document) -> None:
    """Write another command's document, and render the report again if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    document.write(folder / name, extra)
    if (folder / document.NAME).is_file():
        render(folder)


def render(folder: Path) -> None:
    """Draw `det.png` and render `report.html` from the JSON documents in `folder`."""
    evaluation = document.read(folder / document.NAME)
    systems = evaluation["systems"]
    curves = {system["system"]: system["det"] for system in systems}
    points = {system["system"]: system["points"] for system in systems}
    plots.plot_det(curves, points).savefig(folder / DET, dpi=150)
    extras = {
        name: document.read(folder / f"{name}.json")
        for name in ("conditions", "promises", "variants")
        if (folder / f"{name}.json").is_file()
    }
    (folder / REPORT).write_text(page.render(evaluation, extras), encoding="utf-8")


def write_scores(path: Path, assessment: Assessment) -> None:
    """Write rows `enrol test target|nontarget cosine [llr]`, tab-separated."""
    trials, llr = assessment.scored.trials, assessment.llr
    models = [model.name for model in trials.models]
    clips = [clip.name for clip in trials.clips]
    truth = ("nontarget", "target")
    names = zip(trials.enrol.tolist(), trials.test.tolist(), trials.target.tolist(), strict=True)
    ratios = ["" for _ in range(len(trials))] if llr is None else [f"\t{x:.6g}" for x in llr]
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as stream:
        stream.writelines(
            f"{models[enrol]}\t{clips[test]}\t{truth[target]}\t{cosine:.7g}{ratio}\n"
            for (enrol, test, target), cosine, ratio in zip(
                names, assessment.scores.tolist(), ratios, strict=True
            )
        )
