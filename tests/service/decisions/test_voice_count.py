"""The split of a recording's windows in two, which tells two voices from one."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.decisions.voice_count import split_voices

DIMENSION = 32


def _around(centre: np.ndarray, count: int, spread: float, seed: int) -> list[np.ndarray]:
    noise = np.random.default_rng(seed).normal(0, spread, (count, DIMENSION))
    vectors = centre + noise
    return list((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def _axis(index: int) -> np.ndarray:
    return np.eye(DIMENSION)[index]


@given(
    counts=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_two_groups_are_found_in_any_order(
    counts: tuple[int, int], seed: int, order: random.Random
) -> None:
    windows = _around(_axis(0), counts[0], 0.05, seed) + _around(
        _axis(1), counts[1], 0.05, seed + 1
    )
    order.shuffle(windows)
    parts = split_voices(windows)
    assert parts is not None
    assert abs(parts.cosine) < 0.3
    share = counts[0] / sum(counts)
    assert min(abs(parts.share - share), abs(parts.share - 1 + share)) < 1e-9


def test_one_group_is_split_into_likes() -> None:
    parts = split_voices(_around(_axis(0), 30, 0.05, 1))
    assert parts is not None
    assert parts.cosine > 0.9


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_cannot_be_split_is_not(count: int) -> None:
    assert split_voices([_axis(0).astype(np.float32)] * count) is None
