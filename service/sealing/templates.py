"""Renewable templates: a rotation, drawn from a key, that keeps every cosine and fits no other key.

Vectors turned by one rotation compare as before; turned by two, they are as good as unrelated
(ISO/IEC 24745 calls that unlinkability). One who knows as many vectors before and after as they
have values can work the rotation out.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Rotation = NDArray[np.float64]

_NONCE = bytes(16)


def rotation(seed: bytes, dimension: int) -> Rotation:
    """(dimension, dimension) orthonormal, drawn by Haar's measure, from 32 bytes.

    The QR decomposition of a normal matrix with R's diagonal made positive (Mezzadri 2007); only
    so is it unique, and the same on every machine to rounding.
    """
    orthonormal, upper = np.linalg.qr(_normal(seed, dimension * dimension).reshape(dimension, -1))
    turned: Rotation = orthonormal * np.sign(np.diagonal(upper))
    return turned


def turned(vectors: NDArray[np.float32], by: Rotation) -> NDArray[np.float32]:
    """`vectors (n, dimension)`, each turned."""
    return (vectors.astype(np.float64) @ by).astype(np.float32)


def turned_back(vectors: NDArray[np.float32], by: Rotation) -> NDArray[np.float32]:
    """Inverse of `turned`, to the rounding of float32."""
    return turned(vectors, by.T)


def _normal(seed: bytes, count: int) -> NDArray[np.float64]:
    """Standard normal values (count,) from ChaCha20's keystream by Box and Muller (1958).

    Spelt out, because no generator of NumPy's promises the same values in its next version.
    """
    pairs = (count + 1) // 2
    keystream = Cipher(ChaCha20(seed, _NONCE), mode=None).encryptor().update(bytes(16 * pairs))
    uniform = ((np.frombuffer(keystream, "<u8") >> np.uint64(11)) + 0.5) * 2.0**-53  # (2 * pairs,)
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]
