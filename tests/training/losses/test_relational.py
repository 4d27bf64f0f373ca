from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training import config, losses
from training.errors import ConfigError
from training.losses.relational import Relational

RECIPE = """
losses = [{ name = "relational", weight = 3.0 }, { name = "info_nce" }]
encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 6 }
schedule = { steps = 1 }
"""


def points(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1)


def test_mean_square_difference_of_the_cosines_of_all_pairs() -> None:
    student, taught = points(5, 6), 2 * points(5, 4, seed=1)
    expected = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                own = functional.cosine_similarity(student[i], student[j], dim=0)
                other = functional.cosine_similarity(taught[i], taught[j], dim=0)
                expected += (own - other).square().item() / 20
    assert Relational()(student, taught).item() == pytest.approx(expected, abs=1e-6)


def test_a_turned_space_is_the_same_space() -> None:
    turned, _ = torch.linalg.qr(points(6, 6, seed=2))
    student = points(8, 6)
    assert Relational()(student, student @ turned).item() == pytest.approx(0, abs=1e-10)


def test_half_precision_in_float32_inside() -> None:
    student, taught = points(5, 6), points(5, 6, seed=1)
    halved = Relational()(student.bfloat16(), taught.bfloat16())
    assert halved.dtype == torch.float32
    assert halved.item() == pytest.approx(Relational()(student, taught).item(), abs=0.02)


def test_a_recipe_gives_it_the_targets_and_needs_them() -> None:
    recipe = config.parse(RECIPE)
    student, taught, labels = points(4, 6), points(4, 9, seed=1), torch.tensor([0, 0, 1, 1])
    total, parts = losses.build(recipe, classes=2, target_dim=9)(student, labels, taught)
    alone = Relational()(student, taught).item()
    assert parts["relational"].item() == pytest.approx(alone)
    assert total.item() == pytest.approx(3 * alone + parts["info_nce"].item(), abs=1e-5)
    with pytest.raises(ConfigError, match="sayso-train teach"):
        losses.build(recipe, classes=2)
