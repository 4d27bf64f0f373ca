from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.support.loss_comparison import MIXED, UNEVEN, assert_matches, unlike
from training.losses.centroids import Centroids
from training.losses.info_nce import InfoNce
from training.losses.negatives import LEFT_OUT, Choice, Negatives
from training.losses.supervised_contrastive import SupervisedContrastive


def naive_weights(
    cosines: list[list[float]], negative: list[list[bool]], choice: Choice
) -> list[list[float]]:
    """How many times each counts, in plain loops."""
    places = [(i, j) for i, row in enumerate(negative) for j, is_one in enumerate(row) if is_one]
    ranked = sorted(cosines[i][j] for i, j in places)
    threshold = ranked[math.ceil(choice.trusted_share * len(ranked)) - 1]
    weights = [[0.0] * len(row) for row in negative]
    for i, j in places:
        weights[i][j] = choice.suspect_weight if cosines[i][j] > threshold else 1.0
    if choice.hardest is not None:
        for i, row in enumerate(weights):
            left = sorted((cosines[i][j] for j, w in enumerate(row) if w > 0), reverse=True)
            for j in range(len(row)):
                if row[j] > 0 and cosines[i][j] not in left[: choice.hardest]:
                    row[j] = 0.0
    return weights


CHOICES = [
    Choice(),
    Choice(hardest=2),
    Choice(hardest=99),
    Choice(trusted_share=0.8),
    Choice(trusted_share=0.8, suspect_weight=0.25),
    Choice(hardest=3, trusted_share=0.7),
    Choice(hardest=3, trusted_share=0.7, suspect_weight=0.5),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_weighs_as_plain_loops_do(choice: Choice, seed: int) -> None:
    points, labels = unlike(UNEVEN, seed).detach(), torch.tensor(UNEVEN)
    cosines, negative = points @ points.T, labels[:, None] != labels
    expected = naive_weights(cosines.tolist(), negative.tolist(), choice)
    assert torch.allclose(choice.log_weights(cosines, negative).exp(), torch.tensor(expected))


def naive_info_nce(points: Tensor, labels: list[int], choice: Choice) -> Tensor:
    negative = [[own != other for other in labels] for own in labels]
    weights = naive_weights((points @ points.T).tolist(), negative, choice)
    terms = []
    for i, a in enumerate(points):
        others = sum(w * torch.exp(a @ n / 0.2) for w, n in zip(weights[i], points, strict=True))
        for j, p in enumerate(points):
            if i != j and labels[i] == labels[j]:
                own = torch.exp(a @ p / 0.2)
                terms.append(-torch.log(own / (own + others)))
    return torch.stack(terms).mean()


def naive_supervised(points: Tensor, labels: list[int], choice: Choice) -> Tensor:
    negative = [[own != other for other in labels] for own in labels]
    weights = naive_weights((points @ points.T).tolist(), negative, choice)
    anchors = []
    for i, a in enumerate(points):
        own = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
        counts = [float(j in own) + w for j, w in enumerate(weights[i])]
        total = sum(c * torch.exp(a @ p / 0.2) for c, p in zip(counts, points, strict=True))
        anchors.append(torch.stack([torch.log(total) - a @ points[j] / 0.2 for j in own]).mean())  # type: ignore[arg-type]
    return torch.stack(anchors).mean()


@pytest.mark.parametrize("choice", CHOICES)
def test_losses_of_chosen_negatives_match_double_loops(choice: Choice) -> None:
    assert_matches(
        InfoNce(temperature=0.2, negatives=Negatives(choice)),
        lambda p, own: naive_info_nce(p, own, choice),
        MIXED,
        1,
    )
    assert_matches(
        SupervisedContrastive(temperature=0.2, negatives=Negatives(choice)),
        lambda p, own: naive_supervised(p, own, choice),
        MIXED,
        1,
    )


def test_suspects_are_the_voice_that_has_two_labels() -> None:
    """A clip-labelled batch in which labels 0 and 1 are one speaker."""
    eye = torch.eye(4)
    cosines = (eye[[0, 0, 0, 0, 1, 1, 2, 2]] @ eye[[0, 0, 0, 0, 1, 1, 2, 2]].T).mul(0.9)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    negative = labels[:, None] != labels
    left_out = Choice(trusted_share=0.8).log_weights(cosines, negative) == LEFT_OUT
    suspects = (left_out & negative).nonzero().tolist()
    assert suspects == [[i, j] for i in range(4) for j in range(4) if labels[i] != labels[j]]


def test_an_anchor_left_without_negatives_learns_nothing() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    points = torch.ones(4, 3).requires_grad_()
    everything = torch.zeros(4, 4, dtype=torch.bool)
    weights = Choice(hardest=1, trusted_share=0.5).log_weights(torch.ones(4, 4), everything)
    assert (weights == LEFT_OUT).all()
    value = InfoNce(negatives=Negatives(Choice(trusted_share=0.5)))(points, labels)
    value.backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("loss", [InfoNce, SupervisedContrastive])
def test_a_memory_gives_the_centroids_of_other_voices_as_negatives(
    loss: type[InfoNce | SupervisedContrastive],
) -> None:
    memory = Centroids(voices=4, embedding_dim=6, momentum=0.5)
    remembering = loss(temperature=0.2, negatives=Negatives(memory=memory))
    earlier, labels = unlike([2, 2, 3, 3], 1), torch.tensor([0, 0, 2, 2])
    plain = loss(temperature=0.2)(earlier, labels).item()
    assert remembering(earlier, labels).item() == pytest.approx(plain)  # nothing to remember yet
    centroids = memory.centroids.clone()

    points = unlike([0, 0, 1, 1], 2)
    now = torch.tensor([0, 0, 1, 1])
    value = remembering(points, now)
    value.backward()  # although the memory has moved on
    assert points.grad is not None
    against = [[centroids[2]], [centroids[2]], [centroids[0], centroids[2]]]
    against.append(against[2])
    expected = []
    for i, partner in enumerate([1, 0, 3, 2]):
        others = [points[j] for j in range(4) if now[j] != now[i]] + against[i]
        own = torch.exp(points[i] @ points[partner] / 0.2)
        total = own + sum(torch.exp(points[i] @ other / 0.2) for other in others)
        expected.append(torch.log(total / own))
    assert value.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    assert not torch.equal(memory.centroids, centroids)


def test_the_memory_follows_in_training_only() -> None:
    memory = Centroids(voices=4, embedding_dim=6)
    loss = InfoNce(negatives=Negatives(memory=memory)).eval()
    loss(unlike([0, 0, 1, 1], 1), torch.tensor([0, 0, 1, 1]))
    assert not memory.known.any()
    assert set(loss.state_dict()) == {
        "log_scale",
        "negatives.memory.centroids",
        "negatives.memory.known",
    }
    assert set(InfoNce().state_dict()) == {"log_scale"}
