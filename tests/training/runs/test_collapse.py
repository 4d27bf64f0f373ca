from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.objectives import build_objective
from training.losses.triplet import BatchAllTriplet, BatchHardTriplet, BatchSemiHardTriplet
from training.runs.collapse import diagnose

MARGIN = 0.3
LABELS = torch.arange(8).repeat_interleave(3)


def made(*, between: float, within: float, seed: int = 0) -> Tensor:
    """A common direction, plus what tells voices and clips apart, of given lengths."""
    random = torch.Generator().manual_seed(seed)
    voices = functional.normalize(torch.randn(8, 64, generator=random), dim=1)[LABELS]
    clips = functional.normalize(torch.randn(len(LABELS), 64, generator=random), dim=1)
    common = torch.zeros(64)
    common[0] = 1.0
    return functional.normalize(common + between * voices + within * clips, dim=1)


def verdict(points: Tensor, mining: type[nn.Module] | None = None) -> str | None:
    if mining is None:
        return diagnose(points, LABELS, {"info_nce": torch.tensor(1.0)})
    part = mining(margin=MARGIN)(points, LABELS)
    return diagnose(points, LABELS, {"triplet": part}, triplet_margin=MARGIN)


@pytest.mark.parametrize("mining", [BatchHardTriplet, BatchSemiHardTriplet, BatchAllTriplet])
@pytest.mark.parametrize(
    ("between", "within"),
    [(9.0, 3.0), (2.0, 1.0), (9.0, 9.0), (1.0, 1.0), (0.5, 0.2)],
    ids=["learned", "learning", "drawn at random", "hardly spread", "spread little"],
)
def test_healthy_embeddings(mining: type[nn.Module], between: float, within: float) -> None:
    points = made(between=between, within=within)
    assert verdict(points, mining) is None
    assert verdict(points) is None


@pytest.mark.parametrize("mining", [BatchHardTriplet, BatchSemiHardTriplet, BatchAllTriplet])
@pytest.mark.parametrize("spread", [0.0, 0.001, 0.01])
def test_triplet_at_its_margin(mining: type[nn.Module], spread: float) -> None:
    message = verdict(made(between=0.1 * spread, within=spread), mining)
    assert message is not None
    assert "triplet sits at its margin" in message
    assert "of 0.3" in message
    assert 'mining = "semi_hard"' in message


def test_a_triplet_that_passes_its_margin_while_learning_is_healthy() -> None:
    points = made(between=2.0, within=1.0)
    at_margin = {"triplet": torch.tensor(MARGIN)}
    assert diagnose(points, LABELS, at_margin, triplet_margin=MARGIN) is None


@pytest.mark.parametrize(("spread", "found"), [(0.0, True), (0.05, True), (0.2, False)])
def test_variance_near_zero(spread: float, found: bool) -> None:
    message = verdict(made(between=spread, within=0.0))
    assert (message is not None) == found
    if message is not None:
        assert "all but coincide" in message
        assert "schedule.learning_rate" in message


def test_clips_of_one_voice_may_coincide() -> None:
    points = torch.ones(4, 4) / 2
    assert diagnose(points, torch.zeros(4), {"triplet": torch.tensor(0.0)}) is None


def test_clips_of_different_voices_without_positives_may_not() -> None:
    points = torch.ones(4, 4) / 2
    parts = {"triplet": torch.tensor(0.0)}
    message = diagnose(points, torch.arange(4), parts, triplet_margin=MARGIN)
    assert message is not None
    assert "all but coincide" in message


def test_a_training_that_collapses_is_found_out() -> None:
    """Hardest negatives of unlearnable labels: the only way down is to one point."""
    torch.manual_seed(1)
    encoder = nn.Linear(16, 8)
    loss = build_objective('{ name = "triplet" }', dim=8, classes=8)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.03)
    messages = []
    for _ in range(150):
        points = functional.normalize(encoder(torch.randn(len(LABELS), 16)), dim=1)
        total, parts = loss(points, LABELS)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        messages.append(diagnose(points, LABELS, parts, triplet_margin=MARGIN))
    assert messages[0] is None
    assert messages[-1] is not None
    assert messages[-1].startswith("collapse:")
