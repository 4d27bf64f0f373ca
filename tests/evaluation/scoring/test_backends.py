"""Back-ends on Gaussian speakers, where the right answer is known, and against plain loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from evaluation import metrics
from evaluation.errors import EvaluationError
from evaluation.metrics import Sweep
from evaluation.scoring import backends, normalization
from evaluation.scoring.backends import Plda
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.normalization import Norm
from evaluation.trials.manifest import Clip, Speaker

Array = np.ndarray


def speakers_in(
    space: Array, noise: Array, count: int, each: int, seed: int
) -> tuple[Array, Array]:
    """Vectors (count * each, dim) with covariances `space` between and `noise` within speakers."""
    rng = np.random.default_rng(seed)
    dim = len(space)
    centres = rng.multivariate_normal(np.full(dim, 3.0), space, count)
    takes = rng.multivariate_normal(np.zeros(dim), noise, (count, each))
    vectors = (centres[:, None] + takes).reshape(-1, dim).astype(np.float32)
    return vectors, np.repeat(np.arange(count), each)


SPACE = np.array([[2.0, 0.5, 0], [0.5, 1.0, 0], [0, 0, 0.05]])
NOISE = np.array([[0.5, 0.2, 0], [0.2, 1.0, 0.3], [0, 0.3, 2.0]])


def test_plda_finds_the_covariances_and_the_ratio() -> None:
    vectors, speakers = speakers_in(SPACE, NOISE, 3000, 6, seed=0)
    fitted = backends.fit_plda(vectors, speakers)
    back = np.linalg.inv(fitted.matrix)
    within, between = back.T @ back, back.T @ np.diag(fitted.between) @ back
    assert within == pytest.approx(NOISE, abs=0.15)
    assert between == pytest.approx(SPACE, abs=0.2)


def test_plda_scores_are_the_log_likelihood_ratio_of_its_model() -> None:
    vectors, speakers = speakers_in(SPACE, NOISE, 50, 4, seed=1)
    fitted = backends.fit_plda(vectors, speakers)
    back = np.linalg.inv(fitted.matrix)
    within, between = back.T @ back, back.T @ np.diag(fitted.between) @ back
    mean = np.tile(fitted.mean, 2)
    total = within + between
    same = multivariate_normal(mean, np.block([[total, between], [between, total]]))
    apart = multivariate_normal(fitted.mean, total)
    enrol, test = np.arange(0, 40), np.arange(60, 100)
    pairs = np.hstack([vectors[enrol], vectors[test]])
    expected = same.logpdf(pairs) - apart.logpdf(vectors[enrol]) - apart.logpdf(vectors[test])
    assert fitted.scores(vectors, vectors, enrol, test) == pytest.approx(expected, abs=1e-3)


def eer_of(scores: Array, target: Array) -> float:
    return metrics.eer(Sweep.of(scores[target], scores[~target]))


def test_lda_and_plda_help_where_the_noise_has_a_direction() -> None:
    train = speakers_in(SPACE, NOISE, 200, 8, seed=2)
    vectors, speakers = speakers_in(SPACE, NOISE, 60, 5, seed=3)
    enrol, test = np.triu_indices(len(vectors), 1)
    target = speakers[enrol] == speakers[test]

    def cosine(projected: Array) -> float:
        return eer_of(np.sum(projected[enrol] * projected[test], axis=1), target)

    centred = cosine(backends.fit_mean_subtraction(train[0])(vectors))
    reduced = backends.fit_lda(*train, 2)(vectors)
    assert reduced.shape == (300, 2)
    assert cosine(reduced) < centred - 0.02
    plda = backends.fit_plda(*train).scores(vectors, vectors, enrol, test)
    assert eer_of(plda, target) < centred - 0.02


def test_projections_centre_and_whiten() -> None:
    vectors, _ = speakers_in(SPACE, NOISE, 500, 4, seed=4)
    centred = backends.fit_mean_subtraction(vectors)
    assert (vectors - centred.mean).mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-3)
    white = backends.fit_whitening(vectors)
    spread = np.cov(((vectors - white.mean) @ white.matrix).T)
    assert np.linalg.eigvalsh(spread) == pytest.approx(np.ones(3), abs=0.3)
    assert np.linalg.norm(white(vectors), axis=1) == pytest.approx(np.ones(2000), abs=1e-5)


@pytest.mark.parametrize("speakers", [[0, 0, 0], [0, 1, 2]])
def test_a_backend_needs_several_clips_of_several_speakers(speakers: list[int]) -> None:
    with pytest.raises(EvaluationError, match="several"):
        backends.fit_lda(np.eye(3, dtype=np.float32), np.array(speakers), 1)


def units(seed: int, count: int, dim: int = 8) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("norm", list(Norm))
def test_normalised_scores_against_a_loop(norm: Norm) -> None:
    models, clips, others = units(0, 5), units(1, 7), units(2, 40)
    enrol, test = np.array([0, 1, 4, 2]), np.array([6, 0, 3, 3])
    scores = np.sum(models[enrol] * clips[test], axis=1).astype(float)

    def standard(score: float, vector: Array) -> float:
        against = sorted(float(vector @ other) for other in others)
        held = against[-10:] if norm is Norm.AS else against
        return float((score - np.mean(held)) / np.std(held))

    expected = []
    for score, e, t in zip(scores, enrol, test, strict=True):
        z, after_t = standard(score, models[e]), standard(score, clips[t])
        expected.append({Norm.Z: z, Norm.T: after_t}.get(norm, (z + after_t) / 2))
    found = normalization.normalize(norm, scores, (models, enrol), (clips, test), others, top_n=10)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_cohort_has_one_vector_a_speaker_that_was_heard(
    voices_from: Callable[..., Voices],
) -> None:
    vectors = units(3, 4)
    clips = [Clip(str(n), Path(), Speaker("", speaker)) for n, speaker in enumerate("aabc")]
    voices: Voices = voices_from(vectors, [True, True, True, False])
    found = normalization.build_cohort(clips, voices)
    both = vectors[0] + vectors[1]
    assert found == pytest.approx(np.stack([both / np.linalg.norm(both), vectors[2]]), abs=1e-6)
    held = normalization.make_contract_cohort(found, top_n=300, source="made")
    assert (held.count, held.top_n, len(held.vectors)) == (2, 2, 2 * 8 * 4)


def test_plda_survives_more_dimensions_than_vectors() -> None:
    vectors, speakers = units(5, 30, 64), np.arange(30) // 3
    scores = backends.fit_plda(vectors, speakers).scores(
        vectors, vectors, np.array([0, 0]), np.array([1, 29])
    )
    assert isinstance(backends.fit_plda(vectors, speakers), Plda)
    assert np.isfinite(scores).all()
