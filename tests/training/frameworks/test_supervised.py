from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.small_runs import CPU, error_of_untrained, recipe_of, run_training
from training.data.batches import Batch
from training.data.library import Library, load_clips, read_manifest
from training.errors import ConfigError
from training.learner import make_learner

LOSSES = """
[[losses]]
name = "info_nce"
[[losses]]
name = "triplet"
weight = 0.5
"""
LATENT = """
[framework]
name = "supervised"
latent_memory = 64
"""


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    """Every second of the 24 made speakers has a single clip."""
    clips = read_manifest(corpus)
    lone = {clip.speaker for clip in clips[4::8]}
    met: set[str] = set()
    kept = []
    for clip in clips:
        if clip.speaker not in lone or clip.speaker not in met:
            kept.append(clip)
        met.add(clip.speaker)
    return load_clips(kept, 16000)


def test_is_what_a_recipe_without_a_framework_means() -> None:
    assert recipe_of(LOSSES) == recipe_of(LOSSES, '[framework]\nname = "supervised"')


def test_loss_is_the_weighted_sum_over_the_labels() -> None:
    learner = make_learner(recipe_of(LOSSES), 4, CPU)
    labels = torch.tensor([0, 0, 1, 1])
    outcome = learner.framework.step(
        learner.encoder, Batch(torch.randn(4, 4000), labels, torch.arange(4))
    )
    parts = outcome.parts
    assert outcome.loss.item() == pytest.approx((parts["info_nce"] + 0.5 * parts["triplet"]).item())


def test_voices_with_one_clip_are_compared_with_made_ones() -> None:
    learner = make_learner(recipe_of(LOSSES, LATENT), 4, CPU)
    labels, clips = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 2])
    counts = []
    for _ in range(2):
        batch = Batch(torch.randn(4, 4000), labels, clips)
        compared = learner.framework.step(learner.encoder, batch).compared
        assert compared is not None
        counts.append([len(part) for part in compared])
    assert counts == [[4, 4], [6, 6]]


def test_learns_with_latent_augmentation(library: Library, tmp_path: Path) -> None:
    recipe = recipe_of(LOSSES, LATENT)
    listener = run_training(recipe, library, tmp_path)
    untrained = error_of_untrained(recipe, library)
    assert listener.errors[-1].recorded < 0.5 * untrained.recorded


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((), "needs losses"),
        ((LATENT, '[[losses]]\nname = "distillation"'), "do not distil"),
    ],
)
def test_recipes_that_cannot_work_are_refused(parts: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        recipe_of(*parts)
