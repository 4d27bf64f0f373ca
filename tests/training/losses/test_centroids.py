from __future__ import annotations

import torch
from torch.nn import functional

from tests.support.loss_comparison import unit_vectors
from training.losses.centroids import Centroids


def test_the_first_batch_sets_a_voice_and_the_next_moves_it() -> None:
    memory = Centroids(voices=3, embedding_dim=6, momentum=0.75)
    first, second = unit_vectors(5, seed=1).detach(), unit_vectors(5, seed=2).detach()
    memory.follow(first, torch.tensor([2, 0, 2, 0, 2]))
    set_by_first = functional.normalize(first[[0, 2, 4]].mean(dim=0), dim=0)
    assert torch.allclose(memory.centroids[2], set_by_first, atol=1e-6)
    assert memory.known.tolist() == [True, False, True]

    untouched = memory.centroids[0].clone()
    memory.follow(second, torch.tensor([2, 2, 1, 1, 1]))
    latest = functional.normalize(second[:2].mean(dim=0), dim=0)
    moved = functional.normalize(0.75 * set_by_first + 0.25 * latest, dim=0)
    assert torch.allclose(memory.centroids[2], moved, atol=1e-6)
    assert torch.equal(memory.centroids[0], untouched)
    assert memory.known.all()
    assert torch.allclose(memory.centroids.norm(dim=1), torch.ones(3))


def test_others_are_known_voices_but_ones_own() -> None:
    memory = Centroids(voices=4, embedding_dim=6)
    memory.follow(unit_vectors(3), torch.tensor([0, 1, 3]))
    assert memory.others(torch.tensor([1, 2])).tolist() == [
        [True, False, False, True],
        [True, True, False, True],
    ]


def test_nothing_is_learned_through_it() -> None:
    memory = Centroids(voices=2, embedding_dim=6)
    memory.follow(unit_vectors(2), torch.tensor([0, 1]))
    assert not memory.centroids.requires_grad
