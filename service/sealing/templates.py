"""Renewable templates: rotate vectors by a secret rotation, which keeps every cosine between them.

Two vectors under one rotation compare as before; under two different rotations they compare like
strangers (ISO/IEC 24745 calls this unlinkability). An attacker who knows as many vectors before
and after rotation as a vector has values can compute the rotation.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Rotation = NDArray[np.float64]

_NONCE = bytes(16)


def draw_rotation(seed: bytes, dimension: int) -> Rotation:
    """Draw an orthonormal matrix (dimension, dimension) by Haar's measure from a seed of 32 bytes.

    Takes the QR decomposition of a normal matrix and makes R's diagonal positive (Mezzadri 2007).
    Only then is it unique, and the same on every machine up to rounding.
    """
    orthonormal, upper = np.linalg.qr(
        _draw_normal(seed, dimension * dimension).reshape(dimension, -1)
    )
    rotation: Rotation = orthonormal * np.sign(np.diagonal(upper))
    return rotation


def rotate(vectors: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float32]:
    """Rotate each of `vectors (n, dimension)`."""
    return (vectors.astype(np.float64) @ rotation).astype(np.float32)


def rotate_back(vectors: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float32]:
    """Undo `rotate`, up to the rounding of float32."""
    return rotate(vectors, rotation.T)


def _draw_normal(seed: bytes, count: int) -> NDArray[np.float64]:
    """Draw standard normal values (count,) from ChaCha20's keystream by Box and Muller (1958).

    NumPy's generators do not promise the same values in the next version, and stored vectors
    depend on these.
    """
    pairs = (count + 1) // 2
    keystream = Cipher(ChaCha20(seed, _NONCE), mode=None).encryptor().update(bytes(16 * pairs))
    uniform = ((np.frombuffer(keystream, "<u8") >> np.uint64(11)) + 0.5) * 2.0**-53  # (2 * pairs,)
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]
