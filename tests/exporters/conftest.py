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
