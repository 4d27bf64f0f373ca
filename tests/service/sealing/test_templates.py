"""A rotation keeps cosines under one key, and under two there is nothing left to compare."""

import math
import struct

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from service.sealing.envelope import DataKey
from service.sealing.templates import draw_rotation

SEED = bytes(range(32))
OTHER = bytes(reversed(range(32)))


def voices(count: int, dimension: int) -> np.ndarray:
    drawn = np.random.default_rng(7).standard_normal((count, dimension))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dimension", [1, 2, 3, 192, 256])
def test_orthonormal(dimension: int) -> None:
    turn = draw_rotation(SEED, dimension)
    np.testing.assert_allclose(turn @ turn.T, np.eye(dimension), atol=1e-12)


def normal(seed: bytes, count: int) -> list[float]:
    """Box and Muller, a value at a time."""
    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(16 * count))
    words = struct.unpack(f"<{2 * ((count + 1) // 2)}Q", stream[: 16 * ((count + 1) // 2)])
    uniform = [((word >> 11) + 0.5) / 2**53 for word in words]
    half = len(uniform) // 2
    radius = [math.sqrt(-2 * math.log(u)) for u in uniform[:half]]
    angle = [2 * math.pi * u for u in uniform[half:]]
    cosines = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    return (cosines + [r * math.sin(a) for r, a in zip(radius, angle, strict=True)])[:count]


@pytest.mark.parametrize("dimension", [1, 2, 5, 8])
def test_gram_and_schmidt_agree(dimension: int) -> None:
    columns = np.array(normal(SEED, dimension**2)).reshape(dimension, dimension).T
    kept: list[np.ndarray] = []
    for column in columns:
        rest = column - sum((column @ each) * each for each in kept)
        kept.append(rest / np.linalg.norm(rest))
    np.testing.assert_allclose(draw_rotation(SEED, dimension), np.array(kept).T, atol=1e-9)


def test_a_key_gives_the_same_rotation_for_ever() -> None:
    """Stored voices depend on these values."""
    expected = [-0.5705609954734605, 0.7154727310128017, -0.4031859640679685]
    np.testing.assert_allclose(draw_rotation(SEED, 3)[0], expected, atol=1e-12)


def test_uniform_by_haars_measure() -> None:
    """The trace of a Haar orthogonal matrix has mean 0 and variance 1, and determinants of either
    sign are equally likely; QR without the sign fix gives neither."""
    turns = [draw_rotation(number.to_bytes(32, "big"), 4) for number in range(4000)]
    traces = np.array([np.trace(turn) for turn in turns])
    assert abs(traces.mean()) < 4 / np.sqrt(len(traces))
    assert abs(traces.var() - 1) < 0.15
    assert abs(np.mean([np.linalg.det(turn) > 0 for turn in turns]) - 0.5) < 0.04


def test_cosines_stay_within_a_key_and_vanish_across() -> None:
    vectors = voices(200, 192)
    mine, theirs = DataKey(1, SEED), DataKey(1, OTHER)
    turned, across = mine.rotate("m", vectors), theirs.rotate("m", vectors)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-6)
    of_same_voice = np.sum(turned * across, axis=1)
    assert abs(of_same_voice.mean()) < 0.02
    assert np.abs(of_same_voice).max() < 0.35


def test_another_version_or_model_is_another_rotation() -> None:
    vectors = voices(50, 192)
    key = DataKey(1, SEED)
    for other in (key.rotate("n", vectors), DataKey(2, OTHER).rotate("m", vectors)):
        assert np.abs(np.sum(key.rotate("m", vectors) * other, axis=1)).max() < 0.4


def test_turning_there_and_back_a_thousand_times_changes_nothing_to_speak_of() -> None:
    key, vectors = DataKey(1, SEED), voices(3, 192)
    kept = vectors
    for _ in range(1000):
        kept = key.rotate_back("m", key.rotate("m", kept))
    np.testing.assert_allclose(kept, vectors, atol=1e-5)
