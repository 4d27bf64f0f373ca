"""What holds for every loss; each one's own definition is tested in `losses/`."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import Tensor, nn

from tests.support.loss_comparison import MIXED, UNEVEN, unit_vectors, unlike
from tests.support.objectives import OBJECTIVES, build_objective
from training.errors import BatchError
from training.losses.info_nce import InfoNce
from training.losses.settings import Loss
from training.losses.triplet import BatchSemiHardTriplet

NEED_TWO_VIEWS = {"n_pair", "symmetric_info_nce", "angular_prototypical", "ge2e"}
NEED_NO_PAIRS = {"aam_softmax"}
CLASSES = 10


@pytest.fixture(params=OBJECTIVES.values(), ids=OBJECTIVES.keys())  # type: ignore[call-overload]
def loss(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """Its name in recipes, and the loss itself."""
    torch.manual_seed(1)
    return next(iter(build_objective(request.param, dim=6, classes=CLASSES).losses.items()))


def value_and_gradient(loss: nn.Module, points: Tensor, labels: list[int]) -> tuple[float, Tensor]:
    value = loss(points, torch.tensor(labels))
    value.backward()
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert points.grad is not None
    for parameter in loss.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    return value.item(), points.grad


def test_every_loss_of_a_recipe_is_tested_here() -> None:
    sections = typing.get_args(typing.get_args(Loss)[0])
    names = {typing.get_args(section.model_fields["name"].annotation)[0] for section in sections}
    tested = {name for text in OBJECTIVES.values() for name in names if f'"{name}"' in text}
    assert tested == names - {"distillation", "relational"}  # which learn from targets, not labels


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0]])
def test_one_voice(loss: tuple[str, nn.Module], labels: list[int]) -> None:
    name, module = loss
    value, gradient = value_and_gradient(module, unit_vectors(len(labels)), labels)
    if name in NEED_NO_PAIRS:
        assert value > 0
    else:
        assert value == 0.0
        assert not gradient.any()


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0]])
def test_no_positives(loss: tuple[str, nn.Module], labels: list[int]) -> None:
    name, module = loss
    if name in NEED_TWO_VIEWS:
        with pytest.raises(BatchError, match="clips_per_speaker"):
            module(unit_vectors(len(labels)), torch.tensor(labels))
        return
    value, gradient = value_and_gradient(module, unit_vectors(len(labels)), labels)
    if name in NEED_NO_PAIRS:
        assert value > 0
    else:
        assert value == 0.0
        assert not gradient.any()


@pytest.mark.parametrize(
    "rows", [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]], ids=["all", "across", "within"]
)
def test_duplicate_embeddings(loss: tuple[str, nn.Module], rows: list[int]) -> None:
    points = unit_vectors(3).detach()[rows].requires_grad_()
    value, gradient = value_and_gradient(loss[1], points, [0, 0, 1, 1, 2, 2])
    assert 0.0 <= value < 100.0
    assert gradient.isfinite().all()


def test_opposite_views_of_one_voice(loss: tuple[str, nn.Module]) -> None:
    """Their mean has no direction."""
    one, *others = unit_vectors(5).detach()
    points = torch.stack([one, -one, *others]).requires_grad_()
    value, gradient = value_and_gradient(loss[1], points, [0, 0, 0, 1, 1, 1])
    assert 0.0 <= value < 250.0
    assert gradient.abs().max() < 1e5


@pytest.mark.parametrize("rows", [list(range(10)), [0, 0, 1, 1, 1, 2, 2, 3, 4, 4]])
def test_half_precision_is_float32_inside(loss: tuple[str, nn.Module], rows: list[int]) -> None:
    module = loss[1].eval()
    points = unlike(MIXED, 1).detach()[rows]
    halved = points.bfloat16().requires_grad_()
    value, gradient = value_and_gradient(module, halved, MIXED)
    assert gradient.isfinite().all()
    assert value == module(halved.detach().float(), torch.tensor(MIXED)).item()
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = module(points, torch.tensor(MIXED))
    assert under_autocast.item() == module(points, torch.tensor(MIXED)).item()


def test_labels_tell_the_voices_not_their_places(loss: tuple[str, nn.Module]) -> None:
    module = loss[1].eval()
    together = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    points = unlike(together, 1).detach()
    apart = torch.tensor([4, 8, 0, 1, 9, 5, 6, 2, 10, 11, 3, 7])  # each voice's views in order
    value = module(points, torch.tensor(together)).item()
    assert value > 0
    assert module(points[apart], torch.tensor(together)[apart]).item() == pytest.approx(value)


def test_a_recipe_weighs_its_losses() -> None:
    objectives = """{ name = "triplet", weight = 0.5, mining = "semi_hard" },
                    { name = "info_nce", weight = 2.0, temperature = 0.1 }"""
    points, labels = unit_vectors(len(UNEVEN)), torch.tensor(UNEVEN)
    total, parts = build_objective(objectives, dim=6, classes=4)(points, labels)
    expected_parts = {
        "triplet": BatchSemiHardTriplet()(points, labels).item(),
        "info_nce": InfoNce(temperature=0.1)(points, labels).item(),
    }
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected_parts)
    expected = 0.5 * expected_parts["triplet"] + 2.0 * expected_parts["info_nce"]
    assert total.item() == pytest.approx(expected)
