"""Which score is best: cosine, normalized by a cohort, or after a back-end fitted fit_data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.experiments.trial_selection import read_trials
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
class FitData:
    """Embeddings (n, dim) of speakers (n,) that are in no trial, and a cohort made of them."""

    vectors: Vectors
    speakers: NDArray[np.integer]
    cohort: Vectors


async def measure(
    request: Request, *, fit_split: str, fit_clips: int, top_n: int, lda_dim: int
) -> Document:
    """Compare every variant with plain cosine on the same trials by a paired bootstrap."""
    if request.manifest is None:
        raise EvaluationError("back-ends need --manifest")
    trials = read_trials(request)
    others = sampling.sample_balanced(
        manifest.read(request.manifest, fit_split), fit_clips, seed=request.seed
    )
    if shared := manifest.shared_speaker(trials.clips, others):
        raise EvaluationError(f"split {fit_split!r} shares speakers with the trials: {shared}")
    with Cache.open(request.cache) as cache:
        async with SaysoModel.open(request.model, device=request.device) as model:
            voices = await embeddings.embed(model, trials.clips, cache, label="trials")
            fit_voices = await embeddings.embed(model, others, cache, label=f"split {fit_split}")
            system = model.model_id
    fit_data = _gather_fit_data(others, fit_voices)
    scored = scores.score(trials, voices).trials
    variants = dict(score_variants(scored, voices, fit_data, top_n, lda_dim))
    rows = _measure_rows(request, scored, variants)
    description = (
        f"Fitted on {len(fit_data.vectors)} clips, normalized by a cohort of"
        f" {len(fit_data.cohort)} speakers, of split {fit_split}"
    )
    trials_made = f"{len(scored)} pairs"
    head = document.make_head(request.seed, request.replicates, str(request.manifest), trials_made)
    return {**head, "system": system, "told": description, "rows": rows}


def score_variants(
    trials: Trials, voices: Voices, fit_data: FitData, top_n: int, lda_dim: int
) -> Iterator[tuple[str, Floats]]:
    """Yield the name of every variant and its scores (n,) of the trials, plain cosine first."""
    cosine = scores.score(trials, voices).measures.cosine
    models = scores.enroll_models(trials, voices).vectors
    yield "cosine", cosine
    for norm, name in _NAMES.items():
        sides = ((models, trials.enrol), (voices.vectors, trials.test))
        normalized = normalization.normalize(norm, cosine, *sides, fit_data.cohort, top_n=top_n)
        yield name.format(top_n=min(top_n, len(fit_data.cohort))), normalized
    kept = min(lda_dim, fit_data.vectors.shape[1], len(np.unique(fit_data.speakers)) - 1)
    lda = backends.fit_lda(fit_data.vectors, fit_data.speakers, kept)
    projections = {
        "mean subtraction": backends.fit_mean_subtraction(fit_data.vectors),
        "whitening": backends.fit_whitening(fit_data.vectors),
        f"LDA to {kept}": lda,
    }
    for name, projection in projections.items():
        projected = replace(voices, vectors=projection(voices.vectors))
        yield name, scores.score(trials, projected).measures.cosine
    plda = backends.fit_plda(lda(fit_data.vectors), fit_data.speakers)
    left, right = lda(models), lda(voices.vectors)
    yield f"PLDA after LDA to {kept}", plda.scores(left, right, trials.enrol, trials.test)


_NAMES = {
    Norm.Z: "Z-norm",
    Norm.T: "T-norm",
    Norm.S: "S-norm",
    Norm.AS: "adaptive S-norm, top {top_n}",
}


def _measure_rows(request: Request, trials: Trials, variants: dict[str, Floats]) -> list[Document]:
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


def _gather_fit_data(clips: tuple[Clip, ...], voices: Voices) -> FitData:
    speakers = manifest.speaker_numbers(clips)
    return FitData(
        voices.vectors[voices.acquired],
        speakers[voices.acquired],
        normalization.build_cohort(clips, voices),
    )
