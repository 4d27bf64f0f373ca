import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from exporters import parity
from exporters.graph import trace
from exporters.publish import Candidate, Windows
from training import config, encoders
from training.encoders import SpeakerEncoder

torch.set_num_threads(1)

RECIPE = """
[front_end]
mels = 24

[encoder]
name = "ecapa"
width = 16
groups = 4
embedding_dim = 24

[[losses]]
name = "info_nce"

[schedule]
steps = 10
"""


@pytest.fixture(scope="session")
def tiny_recipe() -> config.Recipe:
    return config.parse(RECIPE)


@pytest.fixture(scope="session")
def tiny(tiny_recipe: config.Recipe) -> SpeakerEncoder:
    """A small real encoder with random weights, of dimension 24."""
    torch.manual_seed(7)
    return encoders.build(tiny_recipe).eval()


@pytest.fixture(scope="session")
def candidate(tiny: SpeakerEncoder) -> Candidate:
    return Candidate(
        name="tiny",
        graph=trace(tiny, torch.randn(2, 16000)),
        original=parity.module_embed(tiny),
        rate=16000,
        windows=Windows(window_s=1.0, hop_s=0.5, min_speech_s=0.3, short_s=(0.5,)),
        provenance={"recipe": "random weights"},
    )


@pytest.fixture(scope="session")
def peer_module() -> Callable[[str], Any]:
    """Imports one module of an installed package without its `__init__`s, so that what those pull
    in need not be installed; skips the test when the package is not there."""

    def imported(name: str) -> Any:
        top, *_ = name.split(".")
        if top not in sys.modules and importlib.util.find_spec(top) is None:
            pytest.skip(f"{top} is not installed: pip install --no-deps {top}")
        parents = name.split(".")[:-1]
        for depth in range(1, len(parents) + 1):
            _bare_package(".".join(parents[:depth]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)

    return imported


def _bare_package(name: str) -> None:
    if name in sys.modules:
        return
    found = importlib.util.find_spec(name)
    assert found is not None
    package = types.ModuleType(name)
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules[name] = package
