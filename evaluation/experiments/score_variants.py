"""Which score is best: cosine, normalised by a cohort, or after a back-end fitted elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.experiments.run import Request, read_trials
from evaluation.metrics import Sweep, comparison
from evaluation.report import document
from evaluation.report.document import Document
from evaluation.scoring import backends, embeddings, normalization, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.normalization import Norm
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, sampling
from evaluation.trials.manifest import Clip
from evaluation.trials.trials import Trials

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

NAME = "variants.json"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Embeddings (n, dim) to fit on, of speakers (n,) that are in no trial, and their cohort."""

    vectors: Vectors
    speakers: NDArray[np.integer]
    cohort: Vectors


async def measure(
    request: Request, *, fit_split: str, fit_clips: int, top_n: int, lda_dim: int
) -> Document:
    """Every variant beside plain cosine on the same trials, with a paired bootstrap."""
    if request.manifest is None:
        raise EvaluationError("back-ends need --manifest")
    asked = read_trials(request)
    others = sampling.sample_balanced(
        manifest.read(request.manifest, fit_split), fit_clips, seed=request.seed
    )
    if shared := manifest.shared_speaker(asked.clips, others):
        raise EvaluationError(f"split {fit_split!r} shares speakers with the trials: {shared}")
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            voices = await embeddings.embed(model, asked.clips, cache, label="trials")
            heard = await embeddings.embed(model, others, cache, label=f"split {fit_split}")
            system = model.model_id
    elsewhere = _elsewhere(others, heard)
    held = scores.score(asked, voices).trials
    rows = _rows(request, held, dict(score_variants(held, voices, elsewhere, top_n, lda_dim)))
    told = (
        f"Fitted on {len(elsewhere.vectors)} clips, normalised by a cohort of"
        f" {len(elsewhere.cohort)} speakers, of split {fit_split}"
    )
    made = f"{len(held)} pairs"
    head = document.make_head(request.seed, request.replicates, str(request.manifest), made)
    return {**head, "system": system, "told": told, "rows": rows}


def score_variants(
    trials: Trials, voices: Voices, elsewhere: Elsewhere, top_n: int, lda_dim: int
) -> Iterator[tuple[str, Floats]]:
    """Scores (n,) of the trials by every variant, plain cosine first."""
    cosine = scores.score(trials, voices).measures.cosine
    models = scores.enroll_models(trials, voices).vectors
    yield "cosine", cosine
    for norm, name in _NAMES.items():
        sides = ((models, trials.enrol), (voices.vectors, trials.test))
        normalised = normalization.normalize(norm, cosine, *sides, elsewhere.cohort, top_n=top_n)
        yield name.format(top_n=min(top_n, len(elsewhere.cohort))), normalised
    kept = min(lda_dim, elsewhere.vectors.shape[1], len(np.unique(elsewhere.speakers)) - 1)
    lda = backends.fit_lda(elsewhere.vectors, elsewhere.speakers, kept)
    projections = {
        "mean subtraction": backends.fit_mean_subtraction(elsewhere.vectors),
        "whitening": backends.fit_whitening(elsewhere.vectors),
        f"LDA to {kept}": lda,
    }
    for name, projection in projections.items():
        projected = replace(voices, vectors=projection(voices.vectors))
        yield name, scores.score(trials, projected).measures.cosine
    plda = backends.fit_plda(lda(elsewhere.vectors), elsewhere.speakers)
    left, right = lda(models), lda(voices.vectors)
    yield f"PLDA after LDA to {kept}", plda.scores(left, right, trials.enrol, trials.test)


_NAMES = {
    Norm.Z: "Z-norm",
    Norm.T: "T-norm",
    Norm.S: "S-norm",
    Norm.AS: "adaptive S-norm, top {top_n}",
}


def _rows(request: Request, trials: Trials, variants: dict[str, Floats]) -> list[Document]:
    plain, sides, target = variants["cosine"], trials.sides(), trials.target
    rows = []
    for name, values in variants.items():
        sweep = Sweep.of(values[target], values[~target])
        difference = comparison.compare(
            plain, values, target, sides, replicates=request.replicates, seed=request.seed
        )["EER"]
        rows.append(
            {
                "name": name,
                "eer": metrics.eer(sweep),
                "min_dcf": {prior: metrics.min_dcf(sweep, prior) for prior in (0.01, 0.05)},
                "difference": None if name == "cosine" else difference.interval,
                "verdict": "" if name == "cosine" else _VERDICTS[difference.verdict],
            }
        )
    return rows


_VERDICTS = {
    "B is better": "helps",
    "A is better": "harms",
    "no difference shown": "no difference shown",
}


def _elsewhere(clips: tuple[Clip, ...], heard: Voices) -> Elsewhere:
    speakers = manifest.speaker_numbers(clips)
    return Elsewhere(
        heard.vectors[heard.acquired],
        speakers[heard.acquired],
        normalization.build_cohort(clips, heard),
    )
