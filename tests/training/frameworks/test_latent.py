from __future__ import annotations

import math

import torch
from torch.nn import functional

from training.frameworks.latent import LatentAugmentation

DIM = 6


def met(module: LatentAugmentation, embeddings: torch.Tensor, *voices: tuple[int, int]) -> None:
    """Show it embeddings whose (label, clip) are given."""
    labels, clips = torch.tensor(voices).T
    module(embeddings, labels, clips)


def unit(*rows: list[float]) -> torch.Tensor:
    return functional.normalize(torch.tensor(rows), dim=1)


def test_a_lone_voice_varies_as_the_others_do() -> None:
    module = LatentAugmentation(embedding_dim=3, size=8, seed=1)
    # the two clips of voice 0 differ along the third axis alone
    met(module, unit([1.0, 0.0, 0.3], [1.0, 0.0, -0.3]), (0, 0), (0, 1))
    lone = unit([0.6, 0.8, 0.0], [0.6, 0.8, 0.0])
    labels = torch.tensor([7, 7])
    embeddings, made_labels = module(lone, labels, torch.tensor([9, 9]))
    assert embeddings.shape == (4, 3)
    assert made_labels.tolist() == [7, 7, 7, 7]
    assert torch.equal(embeddings[:2], lone)
    for made in embeddings[2:]:
        assert math.isclose(made.norm(), 1.0, rel_tol=1e-6)
        assert math.isclose(made[1] / made[0], 0.8 / 0.6, rel_tol=1e-5)
        assert abs(made[2]) > 0.3


def test_only_voices_with_one_clip_get_companions() -> None:
    module = LatentAugmentation(embedding_dim=DIM, size=8, seed=1)
    embeddings = functional.normalize(torch.randn(6, DIM), dim=1)
    labels, clips = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 2, 3, 4])
    once, _ = module(embeddings, labels, clips)
    assert len(once) == 6, "nothing is known yet of how voices vary"
    twice, made_labels = module(embeddings, labels, clips)
    assert made_labels.tolist() == [0, 0, 1, 1, 2, 2, 1, 1]
    assert len(twice) == 8


def test_keeps_the_last_differences_both_ways_round() -> None:
    module = LatentAugmentation(embedding_dim=DIM, size=4, seed=1)
    pairs = [functional.normalize(torch.randn(2, DIM), dim=1) for _ in range(3)]
    for pair in pairs:
        met(module, pair, (0, 0), (0, 1))
    kept = {tuple(row.tolist()) for row in module.differences}
    expected = {tuple((s * (a - b)).tolist()) for a, b in pairs[1:] for s in (1, -1)}
    assert kept == expected
    assert module.met == 6


def test_more_differences_than_it_holds_at_once() -> None:
    module = LatentAugmentation(embedding_dim=DIM, size=3, seed=1)
    met(module, torch.randn(4, DIM), *((0, clip) for clip in range(4)))
    assert module.met == 3
    assert module.differences.abs().sum(dim=1).gt(0).all()


def test_learns_through_the_lone_embedding_and_not_through_the_memory() -> None:
    module = LatentAugmentation(embedding_dim=DIM, size=8, seed=1)
    others = torch.randn(2, DIM, requires_grad=True)
    met(module, others, (0, 0), (0, 1))
    lone = torch.randn(1, DIM, requires_grad=True)
    made, _ = module(lone, torch.tensor([3]), torch.tensor([5]))
    made[1].sum().backward()
    assert lone.grad is not None
    assert lone.grad.abs().sum() > 0
    assert others.grad is None


def test_goes_on_from_its_state() -> None:
    one, other = (LatentAugmentation(embedding_dim=DIM, size=8, seed=1) for _ in range(2))
    met(one, torch.randn(4, DIM), (0, 0), (0, 1), (1, 2), (1, 3))
    other.load_state_dict(one.state_dict())
    lone = torch.randn(5, DIM)
    labels, clips = torch.arange(5), torch.arange(5)
    assert torch.equal(one(lone, labels, clips)[0], other(lone, labels, clips)[0])
