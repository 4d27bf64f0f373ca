"""What holds for every test."""

import os

import pytest

# Workers of pytest-xdist share the cores, so that none spreads over all of them. It is set before
# numpy and torch are imported, and goes on to the processes that tests start.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="reliability: all rounds, and write what was seen"
    )
