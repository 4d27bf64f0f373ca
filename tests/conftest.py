"""What holds for every test."""

import os

import pytest

_LONG_BYTES = 32

# Workers of pytest-xdist share the cores, so that none spreads over all of them. It is set before
# numpy and torch are imported, and goes on to the processes that tests start.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="reliability: all rounds, and write what was seen"
    )


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a recording by its length, not by its bytes.

    libsndfile writes the time into some headers, and workers of pytest-xdist must agree on names.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > _LONG_BYTES else None
