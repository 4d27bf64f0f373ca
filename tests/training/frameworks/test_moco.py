from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.support.small_runs import assert_same, error_of_untrained, recipe_of, run_training
from training import encoders
from training.data.batches import Batch
from training.data.library import Library
from training.errors import ConfigError
from training.frameworks.moco import MoCo
from training.ranks import ALONE
from training.runs import checkpoint
from training.train import Limits

SECTION = """
[framework]
name = "moco"
queue = 64
momentum = 0.9
temperature = 0.1
"""
DIM = 32


def made(queue: int = 10) -> tuple[encoders.SpeakerEncoder, MoCo]:
    torch.manual_seed(0)
    encoder = encoders.build(recipe_of(SECTION))
    moco = MoCo(
        encoder, embedding_dim=DIM, queue=queue, momentum=0.75, temperature=0.1, seed=3, ranks=ALONE
    )
    return encoder, moco


def views(clips: int) -> Batch:
    labels = torch.arange(clips).repeat_interleave(2)
    return Batch(torch.randn(2 * clips, 4000), labels, labels)


def test_loss_is_infonce_against_the_queue() -> None:
    encoder, moco = made()
    batch = views(3)
    queue = moco.queue.clone()
    outcome = moco.step(encoder.eval(), batch)
    with torch.no_grad():
        queries = encoder(batch.waveforms[0::2])
        keys = copy.deepcopy(encoder).train()(batch.waveforms[1::2])
    losses = []
    for query, key in zip(queries, keys, strict=True):
        right = math.exp(float(query @ key) / 0.1)
        wrong = sum(math.exp(float(query @ other) / 0.1) for other in queue)
        losses.append(-math.log(right / (right + wrong)))
    assert outcome.loss.item() == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert torch.equal(moco.queue, queue), "keys join the queue after the step"


def test_new_keys_take_the_places_of_the_oldest() -> None:
    encoder, moco = made(queue=5)
    begun = moco.queue.clone()
    keys = []
    for _ in range(2):
        moco.step(encoder, views(3))
        keys.append(moco._keys)
        moco.after_step(encoder)
    assert torch.equal(moco.queue, torch.stack([keys[1][2], *keys[0][1:], *keys[1][:2]]))
    assert not torch.equal(moco.queue, begun)
    moco.step(encoder, views(7))
    moco.after_step(encoder)
    assert {tuple(row.tolist()) for row in moco.queue} == {
        tuple(row.tolist()) for row in moco._keys[-5:]
    }


def test_momentum_encoder_follows_slowly_and_learns_nothing_itself() -> None:
    encoder, moco = made()
    before = [p.clone() for p in moco.key_encoder.parameters()]
    outcome = moco.step(encoder, views(3))
    outcome.loss.backward()
    assert all(p.grad is None for p in moco.key_encoder.parameters())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    moco.after_step(encoder)
    for old, kept in zip(before, moco.key_encoder.parameters(), strict=True):
        assert torch.allclose(kept, old + 0.25, atol=1e-6)


def test_begins_with_the_weights_the_run_begins_with() -> None:
    encoder, moco = made()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    moco.begin(encoder)
    for key, value in moco.key_encoder.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[key])
    assert torch.allclose(functional.normalize(moco.queue, dim=1), moco.queue)


def test_views_come_in_pairs() -> None:
    with pytest.raises(ConfigError, match="clips_per_speaker = 2"):
        recipe_of(SECTION, clips_per_speaker="3")


def test_learns_without_labels_and_resumes_queue_and_all(sittings: Library, tmp_path: Path) -> None:
    recipe = recipe_of(SECTION, speakers="16", equaliser="1.0", equaliser_deviation_db="12.0")
    run_training(recipe, sittings, tmp_path / "whole")
    best = checkpoint.load(tmp_path / "whole" / "best.pt").progress.best
    assert best < 0.5 * error_of_untrained(recipe, sittings).mean
    for stop in (47, None):
        run_training(recipe, sittings, tmp_path / "parts", Limits(stop_at_step=stop))
    whole, parts = (checkpoint.load(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    assert whole.framework["enqueued"] == 60 * 16
    assert_same(whole, parts)
