from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training import config, losses
from training.losses.aam_softmax import AamSoftmax
from training.losses.info_nce import InfoNce
from training.losses.triplet import BatchHardTriplet, BatchSemiHardTriplet

UNEVEN = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]


def embeddings(count: int, dim: int = 6, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1).requires_grad_()


def distance(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a.detach().double() - b.detach().double()))


def naive_batch_hard(points: Tensor, labels: list[int], margin: float) -> float:
    terms = []
    for i, a in enumerate(points):
        others = [j for j in range(len(labels)) if j != i]
        positives = [distance(a, points[j]) for j in others if labels[j] == labels[i]]
        negatives = [distance(a, points[j]) for j in others if labels[j] != labels[i]]
        if positives and negatives:
            terms.append(max(0.0, margin + max(positives) - min(negatives)))
    return sum(terms) / len(terms)


def naive_semi_hard(points: Tensor, labels: list[int], margin: float) -> float:
    terms = []
    for i, a in enumerate(points):
        negatives = [
            distance(a, p) for p, own in zip(points, labels, strict=True) if own != labels[i]
        ]
        for j, p in enumerate(points):
            if i != j and labels[i] == labels[j] and negatives:
                to_positive = distance(a, p)
                beyond = [far for far in negatives if far > to_positive]
                to_negative = min(beyond) if beyond else max(negatives)
                terms.append(max(0.0, margin + to_positive - to_negative))
    return sum(terms) / len(terms)


def naive_info_nce(points: Tensor, labels: list[int], temperature: float) -> float:
    score = (points.detach().double() @ points.detach().double().T / temperature).numpy()
    terms = []
    for a in range(len(labels)):
        negatives = sum(math.exp(score[a, n]) for n in range(len(labels)) if labels[n] != labels[a])
        for p in range(len(labels)):
            if a != p and labels[a] == labels[p]:
                own = math.exp(score[a, p])
                terms.append(-math.log(own / (own + negatives)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(
    ("loss", "naive"),
    [(BatchHardTriplet, naive_batch_hard), (BatchSemiHardTriplet, naive_semi_hard)],
)
def test_triplets_match_a_double_loop(
    loss: type[nn.Module], naive: Callable[..., float], margin: float, seed: int
) -> None:
    points = embeddings(len(UNEVEN), seed=seed)
    value = loss(margin=margin)(points, torch.tensor(UNEVEN))
    assert value.item() == pytest.approx(naive(points, UNEVEN, margin), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_info_nce_matches_a_double_loop(temperature: float, seed: int) -> None:
    points = embeddings(len(UNEVEN), seed=seed)
    value = InfoNce(temperature=temperature)(points, torch.tensor(UNEVEN))
    assert value.item() == pytest.approx(naive_info_nce(points, UNEVEN, temperature), rel=1e-5)


def test_info_nce_of_pairs_is_cross_entropy_over_the_others() -> None:
    points, labels = embeddings(6), [0, 0, 1, 1, 2, 2]
    scores = (points @ points.T / 0.1).fill_diagonal_(-math.inf)
    expected = functional.cross_entropy(scores, torch.tensor([1, 0, 3, 2, 5, 4]))
    assert InfoNce(temperature=0.1)(points, torch.tensor(labels)).item() == pytest.approx(
        expected.item()
    )


def test_info_nce_temperature_is_learned_only_when_asked_and_clamped() -> None:
    points, labels = embeddings(4), torch.tensor([0, 0, 1, 1])
    learned, fixed = InfoNce(temperature=0.1, learned=True), InfoNce(temperature=0.1)
    learned(points, labels).backward()
    assert learned.log_scale.grad is not None
    assert not fixed.log_scale.requires_grad
    cold, coldest = InfoNce(temperature=1e-9), InfoNce(temperature=0.01)
    assert cold(points, labels).item() == pytest.approx(coldest(points, labels).item(), rel=1e-4)


@pytest.mark.parametrize("loss", [BatchHardTriplet(), BatchSemiHardTriplet(), InfoNce()])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0]])
def test_zero_with_zero_gradient_without_positives_or_negatives(
    loss: nn.Module, labels: list[int]
) -> None:
    points = embeddings(len(labels))
    value = loss(points, torch.tensor(labels))
    value.backward()
    assert value.item() == 0.0
    assert points.grad is not None
    assert not points.grad.any()


@pytest.mark.parametrize("loss", [BatchHardTriplet(), BatchSemiHardTriplet(), InfoNce()])
def test_gradient_is_finite_on_duplicate_embeddings(loss: nn.Module) -> None:
    points = embeddings(1).detach().repeat(4, 1).requires_grad_()
    loss(points, torch.tensor([0, 0, 1, 1])).backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def naive_aam(loss: AamSoftmax, points: Tensor, labels: list[int]) -> float:
    terms = []
    for point, own in zip(points.detach().double().numpy(), labels, strict=True):
        logits = []
        for label, centre in enumerate(loss.centres.detach().double().numpy()):
            angle = math.acos(np.clip(point @ centre / np.linalg.norm(centre), -1, 1))
            widened = angle + loss.margin * (label == own)
            past = widened > math.pi
            logits.append(
                math.cos(angle) - loss.margin * math.sin(loss.margin) if past else math.cos(widened)
            )
        powers = [math.exp(loss.scale * logit) for logit in logits]
        terms.append(-math.log(powers[own] / sum(powers)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.2])
def test_aam_softmax_matches_its_definition(margin: float) -> None:
    torch.manual_seed(1)
    loss = AamSoftmax(embedding_dim=3, classes=4, scale=8.0, margin=margin)
    points, labels = embeddings(40, dim=3), [i % 4 for i in range(40)]
    value = loss(points, torch.tensor(labels))
    assert value.item() == pytest.approx(naive_aam(loss, points, labels), rel=1e-5)


def test_aam_margin_warms_up_over_training_calls_only() -> None:
    torch.manual_seed(1)
    loss = AamSoftmax(embedding_dim=6, classes=3, margin=0.4, margin_warmup_steps=2)
    plain = AamSoftmax(embedding_dim=6, classes=3, margin=0.0)
    full = AamSoftmax(embedding_dim=6, classes=3, margin=0.4)
    for other in (plain, full):
        other.centres = loss.centres
    points, labels = embeddings(5), torch.tensor([0, 1, 2, 0, 1])
    values = [loss(points, labels).item() for _ in range(4)]
    assert values[0] == plain(points, labels).item()
    assert values[0] < values[1] < values[2]
    assert values[2] == values[3] == full(points, labels).item()
    assert loss.eval()(points, labels).item() == values[3]
    assert int(loss.steps) == 4


def test_a_recipe_weighs_its_losses() -> None:
    recipe = config.parse(
        """
        losses = [{ name = "triplet", weight = 0.5, mining = "semi_hard" },
                  { name = "info_nce", weight = 2.0, temperature = 0.1 }]
        encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 6 }
        schedule = { steps = 1 }
        """
    )
    points, labels = embeddings(len(UNEVEN)), torch.tensor(UNEVEN)
    total, parts = losses.build(recipe, classes=4)(points, labels)
    expected_parts = {
        "triplet": BatchSemiHardTriplet()(points, labels).item(),
        "info_nce": InfoNce(temperature=0.1)(points, labels).item(),
    }
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected_parts)
    expected = 0.5 * expected_parts["triplet"] + 2.0 * expected_parts["info_nce"]
    assert total.item() == pytest.approx(expected)
