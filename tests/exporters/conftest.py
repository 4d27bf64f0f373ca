import csv
import importlib.util
import sys
import types
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from evaluation.experiments.request import Request
from evaluation.scoring.cache import Voice
from exporters import model_file, parity
from exporters.graph import trace
from exporters.publish import Candidate, Windows
from exporters.voices import synthesize_voice
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
    """Import one module of an installed package without its `__init__`s, so that what those pull
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
    package.__spec__ = found
    package.__path__ = list(found.submodule_search_locations or ())
    sys.modules[name] = package


@pytest.fixture(scope="session")
def lively() -> Callable[[nn.Module], nn.Module]:
    """A module in evaluation mode, its batch norms made to do something."""

    def shaken(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(5)
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        return model.eval()

    return shaken


SPEAKERS, CLIPS, RATE = 20, 3, 16000


class Direct:
    """A model's graph alone: one embedding of the first second, no speech detection."""

    def __init__(self, path: Path) -> None:
        model, self.contract = model_file.read(path)
        self._embed = parity.graph_embed(model)
        self.model_id, self.rate = self.contract.model_id, self.contract.sample_rate
        self.cut = f"{self.contract.window_samples}, {self.contract.hop_samples}"

    @classmethod
    @asynccontextmanager
    async def open(cls, model: Path, *, device: str = "auto") -> AsyncIterator[Self]:
        yield cls(model)

    async def embed(self, samples: NDArray[np.float32]) -> Voice:
        return Voice(self._embed(samples[None, :RATE])[0], 1.0, 1.0, 20.0)


@pytest.fixture
def direct() -> type[Direct]:
    """Stands in for `SaysoModel` of evaluation: made voices are not judged as speech."""
    return Direct


@pytest.fixture(scope="session")
def made_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 20 made speakers, three clips each; the last four are of split `train`."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker in range(SPEAKERS):
        voice = synthesize_voice(speaker, rate=RATE, samples=RATE * CLIPS)
        for clip in range(CLIPS):
            name = f"{speaker}-{clip}.wav"
            soundfile.write(folder / name, voice[clip * RATE : (clip + 1) * RATE], RATE)
            rows.append([name, f"speaker{speaker}", "made", "dev" if speaker < 16 else "train"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "speaker", "corpus", "split"], *rows])
    return folder / "manifest.csv"


@pytest.fixture
def trial_request(made_corpus: Path, tmp_path: Path) -> Request:
    """Asks for trials of the made corpus; the model file it names is for the test to write."""
    return Request(
        model=tmp_path / "tiny.onnx",
        manifest=made_corpus,
        split="dev",
        listed=None,
        audio=None,
        cache=None,
    )
