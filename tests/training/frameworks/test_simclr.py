from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.small_runs import CPU, error_of_untrained, recipe_of, run_training
from training.data.batches import Batch
from training.data.library import Library, load_clips, read_manifest
from training.errors import ConfigError
from training.learner import make_learner
from training.losses.info_nce import InfoNce
from training.runs import checkpoint
from training.runs.material import prepare

PARTS = """
[framework]
name = "simclr"
[[losses]]
name = "info_nce"
temperature = 0.1
learned = false
"""


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus), 16000)


def test_labels_are_clips_and_views_differ(library: Library) -> None:
    material = prepare(recipe_of(PARTS), library, ())
    batch = material.batches[0]
    assert torch.equal(batch.clips, batch.labels)
    assert torch.equal(batch.clips[0::2], batch.clips[1::2])
    assert len(set(batch.clips.tolist())) == 8
    assert material.voices == len(material.learned.clips)
    one, other = batch.waveforms[0::2], batch.waveforms[1::2]
    assert not (one - other).abs().amax(dim=1).lt(1e-3).any()


@pytest.mark.parametrize("head_width", [0, 16])
def test_loss_is_nt_xent_behind_the_head(head_width: int) -> None:
    recipe = recipe_of(PARTS.replace('"simclr"', f'"simclr"\nhead_width = {head_width}'))
    learner = make_learner(recipe, 4, CPU)
    learner.encoder.eval()
    labels = torch.arange(3).repeat_interleave(2)
    batch = Batch(torch.randn(6, 4000), labels, labels)
    outcome = learner.framework.step(learner.encoder, batch)
    embeddings = learner.encoder(batch.waveforms)
    head = learner.framework.get_submodule("head")
    assert outcome.loss.item() == pytest.approx(
        InfoNce(temperature=0.1)(head(embeddings), labels).item(), rel=1e-5
    )
    assert outcome.compared is not None
    assert torch.equal(outcome.compared[0], embeddings)
    if head_width:
        assert not torch.allclose(head(embeddings), embeddings)


def test_one_view_is_no_pair() -> None:
    with pytest.raises(ConfigError, match="clips_per_speaker of 2 or more"):
        recipe_of(PARTS, clips_per_speaker="1")


def test_tells_voices_apart_without_labels(sittings: Library, tmp_path: Path) -> None:
    changes = {
        "speakers": "24",
        "steps": "80",
        "equaliser": "1.0",
        "equaliser_deviation_db": "12.0",
    }
    recipe = recipe_of(PARTS, **changes)
    run_training(recipe, sittings, tmp_path)
    best = checkpoint.load(tmp_path / "best.pt").progress.best
    assert best < 0.6 * error_of_untrained(recipe, sittings).mean
