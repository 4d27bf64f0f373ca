"""Weights by older names give the embeddings that they gave in the code that made them.

`old_layouts.json` holds, for each encoder of version 2 of the checkpoint, its recipe, the names and
shapes of its weights in their order, and the embeddings of two made voices, written by that code
with the weights of `weights_of`.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from exporters.voices import load_voices, synthesize_voice
from training import config, encoders
from training.encoders import names
from training.runs import checkpoint, starting_weights
from training.runs.checkpoint import Progress

OLD: dict[str, Any] = json.loads(
    (Path(__file__).parent / "old_layouts.json").read_text(encoding="utf-8")
)
MODELS = Path(__file__).parents[3] / "models"


def recipe_of(encoder: str, dim: int = 12, mels: int = 20) -> config.Recipe:
    return config.parse(
        f"""
        losses = [{{ name = "triplet" }}]
        encoder = {{ {encoder}, embedding_dim = {dim} }}
        front_end = {{ mels = {mels} }}
        schedule = {{ steps = 1 }}
        """
    )


def weights_of(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Each drawn from its own name."""
    return {name: _draw(name, shape) for name, shape in shapes.items()}


def _draw(name: str, shape: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    scale = max(1, int(np.prod(shape[1:]))) ** -0.5
    mean = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
    return torch.randn(shape, generator=generator) * scale + mean


def write_version_2(path: Path, kind: str) -> None:
    """A checkpoint as the older code wrote it, each moment of AdamW equal to its parameter."""
    weights = weights_of(OLD[kind]["shapes"])
    parameters = [t for name, t in weights.items() if not name.endswith(names.STATISTICS)]
    extra = torch.full((3,), 5.0)  # a parameter of the framework, after those of the encoder
    state = {
        place: {"step": torch.tensor(4.0), "exp_avg": value, "exp_avg_sq": value}
        for place, value in enumerate([*parameters, extra])
    }
    progress = Progress(step=4, best=0.1, data_digest="d", train_speakers=2, train_clips=4)
    content = {
        "version": 2,
        "recipe": recipe_of(OLD[kind]["encoder"]).model_dump_json(exclude={"encoder": {"layout"}}),
        "progress": json.dumps(
            {name: getattr(progress, name) for name in type(progress).__slots__}
        ),
        "encoder": weights,
        "average": weights,
        "framework": {f"key_encoder.{name}": value for name, value in weights.items()},
        "optimiser": {"state": state, "param_groups": [{"params": list(range(len(state)))}]},
        "random": {},
    }
    torch.save(content, path)


@pytest.mark.parametrize("kind", OLD)
def test_an_older_checkpoint_gives_its_embeddings(kind: str, tmp_path: Path) -> None:
    write_version_2(tmp_path / "best.pt", kind)
    encoder = checkpoint.load_encoder(tmp_path / "best.pt")
    heard = np.stack([synthesize_voice(seed, rate=16000, samples=20000) for seed in range(2)])
    with torch.inference_mode():
        embeddings = encoder(torch.from_numpy(heard))
    torch.testing.assert_close(embeddings, torch.tensor(OLD[kind]["embeddings"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", OLD)
def test_an_older_run_goes_on_with_its_moments(kind: str, tmp_path: Path) -> None:
    write_version_2(tmp_path / "last.pt", kind)
    loaded = checkpoint.load(tmp_path / "last.pt")
    encoder = encoders.build(loaded.recipe)
    encoder.load_state_dict(loaded.encoder)
    encoder.load_state_dict(
        {name.removeprefix("key_encoder."): t for name, t in loaded.framework.items()}
    )
    moments = loaded.optimizer["state"]
    parameters = list(encoder.parameters())
    for place, parameter in enumerate(parameters):
        assert torch.equal(moments[place]["exp_avg"], parameter)
        assert torch.equal(moments[place]["exp_avg_sq"], parameter)
        assert moments[place]["step"] == 4
    assert moments[len(parameters)]["exp_avg"].tolist() == [5.0] * 3
    assert len(moments) == len(parameters) + 1


@pytest.mark.parametrize(("model", "width"), [("sayso", 256), ("sayso-small", 192)])
def test_a_run_starts_from_what_ships(model: str, width: int) -> None:
    torch.manual_seed(3)
    section = f'name = "ecapa", width = {width}, groups = 4, stride = 2'
    encoder = encoders.build(recipe_of(section, dim=192, mels=80)).eval()
    starting_weights.load_into(encoder, MODELS / f"{model}.onnx")
    heard = load_voices(None, rate=16000, samples=48000, count=2)[0]
    session = onnxruntime.InferenceSession(
        MODELS / f"{model}.onnx", providers=["CPUExecutionProvider"]
    )
    with torch.inference_mode():
        ours = encoder(torch.from_numpy(heard)).numpy()
    (expected,) = session.run(None, {"waveform": heard})
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert abs(ours[0] @ ours[1]) < 0.9  # two speakers


def test_names_that_no_layout_has_are_kept() -> None:
    state = {"layer1.conv.weight": torch.ones(2, 2, 5), "front_end.mel": torch.zeros(2)}
    assert names.translate(state) == state
