from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import SubCenterArcFaceLoss
from torch import Tensor

from tests.support.loss_comparison import unit_vectors
from training.losses.aam_softmax import AamSoftmax

LABELS = [i % 4 for i in range(40)]


def naive(loss: AamSoftmax, points: Tensor, labels: list[int]) -> float:
    centres = loss.centres.detach().double().numpy().reshape(-1, loss.subcentres, points.shape[1])
    terms = []
    for point, own in zip(points.detach().double().numpy(), labels, strict=True):
        logits = []
        for label, group in enumerate(centres):
            nearest = max(point @ centre / np.linalg.norm(centre) for centre in group)
            angle = math.acos(np.clip(nearest, -1, 1))
            widened = angle + loss.margin * (label == own)
            past = widened > math.pi
            logits.append(
                math.cos(angle) - loss.margin * math.sin(loss.margin) if past else math.cos(widened)
            )
        powers = [math.exp(loss.scale * logit) for logit in logits]
        terms.append(-math.log(powers[own] / sum(powers)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("subcentres", [1, 3])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.2])
def test_matches_its_definition(margin: float, subcentres: int) -> None:
    torch.manual_seed(1)
    loss = AamSoftmax(embedding_dim=3, classes=4, scale=8.0, margin=margin, subcentres=subcentres)
    points = unit_vectors(40, dim=3)
    value = loss(points, torch.tensor(LABELS))
    assert value.item() == pytest.approx(naive(loss, points, LABELS), rel=1e-5)


@pytest.mark.parametrize("subcentres", [1, 3])
def test_matches_the_library(subcentres: int) -> None:
    torch.manual_seed(1)
    loss = AamSoftmax(embedding_dim=6, classes=4, scale=30.0, margin=0.2, subcentres=subcentres)
    library = SubCenterArcFaceLoss(
        num_classes=4,
        embedding_size=6,
        margin=math.degrees(0.2),
        scale=30.0,
        sub_centers=subcentres,
    )
    library.W.data = loss.centres.data.T.clone()
    points, labels = unit_vectors(40), torch.tensor(LABELS)
    assert loss(points, labels).item() == pytest.approx(library(points, labels).item(), rel=1e-4)


def test_margin_warms_up_over_training_calls_only() -> None:
    torch.manual_seed(1)
    loss = AamSoftmax(embedding_dim=6, classes=3, margin=0.4, margin_warmup_steps=2)
    plain = AamSoftmax(embedding_dim=6, classes=3, margin=0.0)
    full = AamSoftmax(embedding_dim=6, classes=3, margin=0.4)
    for other in (plain, full):
        other.centres = loss.centres
    points, labels = unit_vectors(5), torch.tensor([0, 1, 2, 0, 1])
    values = [loss(points, labels).item() for _ in range(4)]
    assert values[0] == plain(points, labels).item()
    assert values[0] < values[1] < values[2]
    assert values[2] == values[3] == full(points, labels).item()
    assert loss.eval()(points, labels).item() == values[3]
    assert int(loss.steps) == 4
