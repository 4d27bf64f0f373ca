from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from training import config, losses
from training.errors import ConfigError
from training.losses.distillation import Distillation

RECIPE = """
losses = [{ name = "distillation", weight = 3.0 }, { name = "info_nce" }]
encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 6 }
schedule = { steps = 1 }
"""


def points(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1)


def test_mean_distance_of_each_view_from_its_target() -> None:
    student, taught = points(5, 6), points(5, 6, seed=1)
    expected = 0.0
    for one, other in zip(student.tolist(), taught.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        expected += (1 - dot / (math.hypot(*one) * math.hypot(*other))) / 5
    loss = Distillation(embedding_dim=6, target_dim=6)
    assert loss(student, taught).item() == pytest.approx(expected, abs=1e-6)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-6)
    assert not list(loss.parameters())


def test_a_map_leads_to_another_dimension_and_is_learned() -> None:
    torch.manual_seed(0)
    student, taught = points(32, 6), points(32, 4, seed=1)
    loss = Distillation(embedding_dim=6, target_dim=4)
    optimiser = torch.optim.SGD(loss.parameters(), lr=1.0)
    before = loss(student, taught).item()
    for _ in range(50):
        optimiser.zero_grad()
        loss(student, taught).backward()
        optimiser.step()
    assert loss(student, taught).item() < before - 0.2


def test_a_map_is_learned_between_equal_dimensions_where_asked_for() -> None:
    turned, _ = torch.linalg.qr(points(6, 6, seed=2))
    student = points(32, 6)
    loss = Distillation(embedding_dim=6, target_dim=6, mapped=True)
    with torch.no_grad():
        loss.project.weight.copy_(turned)
    assert loss(student, student @ turned.T).item() == pytest.approx(0, abs=1e-6)
    assert loss(student, student).item() > 0.1
    recipe = config.parse(RECIPE.replace("weight = 3.0", "mapped = true"))
    built = losses.build(recipe, classes=2, target_dim=6).losses["distillation"]
    assert [p.shape for p in built.parameters()] == [(6, 6)]


def test_half_precision_in_float32_inside() -> None:
    student, taught = points(5, 6), points(5, 6, seed=1)
    loss = Distillation(embedding_dim=6, target_dim=6)
    halved = loss(student.bfloat16(), taught.bfloat16())
    assert halved.dtype == torch.float32
    assert halved.item() == pytest.approx(loss(student, taught).item(), abs=0.02)


def test_a_recipe_gives_it_the_targets_and_the_others_the_labels() -> None:
    recipe = config.parse(RECIPE)
    student, taught, labels = points(4, 6), points(4, 6, seed=1), torch.tensor([0, 0, 1, 1])
    total, parts = losses.build(recipe, classes=2, target_dim=6)(student, labels, taught)
    alone = Distillation(embedding_dim=6, target_dim=6)(student, taught)
    assert parts["distillation"].item() == pytest.approx(alone.item())
    assert total.item() == pytest.approx(3 * alone.item() + parts["info_nce"].item(), abs=1e-5)
    with pytest.raises(ConfigError, match="sayso-train teach"):
        losses.build(recipe, classes=2)
