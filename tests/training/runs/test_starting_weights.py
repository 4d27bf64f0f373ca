from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from exporters.graph import trace
from training import config, encoders
from training.data.library import load_clips, read_manifest
from training.encoders import published
from training.errors import CheckpointError
from training.runs import checkpoint, starting_weights
from training.runs.reporting import Reporters
from training.runs.validation import Errors
from training.train import Limits, train

RECIPE = """
seed = {seed}
losses = [{{ name = "info_nce" }}]
encoder = {{ name = "ecapa", width = {width}, groups = 4, embedding_dim = 6 }}
sampling = {{ speakers = 4, crop_s = [0.5], held_out_speakers = 0.3 }}
schedule = {{ steps = 4, learning_rate = 1e-9, weight_decay = 0, average_decay = 0 }}
"""


def recipe(seed: int = 1, width: int = 16) -> config.Recipe:
    return config.parse(RECIPE.format(seed=seed, width=width))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of an encoder whose weights no seed gives again."""
    torch.manual_seed(77)
    encoder = encoders.build(recipe())
    for name, held in encoder.state_dict().items():
        if held.is_floating_point():  # equal tensors would be one in the graph
            torch.nn.init.uniform_(held, *((0.5, 1.5) if "running_var" in name else (-0.3, 0.3)))
    path = tmp_path_factory.mktemp("published") / "model.onnx"
    onnx.save(trace(encoder.eval(), torch.randn(2, 8000)), path)
    return path


def test_the_encoder_comes_back_from_its_graph(model: Path) -> None:
    encoder = encoders.build(recipe(seed=5))
    starting_weights.load_into(encoder, model)
    heard = torch.randn(3, 12000, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = torch.from_numpy(session.run(None, {"waveform": heard.numpy()})[0])
    with torch.inference_mode():
        assert torch.allclose(encoder.eval()(heard), expected, atol=1e-4)


def test_a_run_begins_with_a_published_model(model: Path, corpus: Path, tmp_path: Path) -> None:
    library = load_clips(read_manifest(corpus), 16000)
    train(
        recipe(seed=5),
        library,
        (),
        tmp_path / "run",
        reporter=Reporters(),
        device=torch.device("cpu"),
        limits=Limits(stop_at_step=1),
        start_from=model,
    )
    kept = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    published_encoder = encoders.build(recipe())
    starting_weights.load_into(published_encoder, model)
    wanted = published_encoder.state_dict()
    for name, weight in kept.encoder.items():
        if "running" not in name and published.COUNTER not in name:
            assert torch.allclose(weight, wanted[name], atol=1e-6), name


def test_a_run_fine_tunes_a_published_checkpoint(corpus: Path, tmp_path: Path) -> None:
    chosen = config.parse(
        RECIPE.format(seed=5, width=16).replace(
            "embedding_dim = 6", 'embedding_dim = 6, layout = "wespeaker"'
        )
        + 'front_end = { name = "wespeaker" }'
    )
    torch.manual_seed(11)
    weights = encoders.build(chosen).encoder.state_dict()
    path = tmp_path / "published.pt"
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    heard = Heard()
    train(
        chosen,
        load_clips(read_manifest(corpus), 16000),
        (),
        tmp_path / "run",
        reporter=heard,
        device=torch.device("cpu"),
        limits=Limits(stop_at_step=1),
        start_from=starting_weights.read(path),
    )
    assert heard.validated_at == [0]  # the published weights are measured before the first step
    kept = checkpoint.load(tmp_path / "run" / checkpoint.LAST)
    for name, weight in kept.encoder.items():
        if "running" not in name and published.COUNTER not in name:
            wanted = weights[name.removeprefix("encoder.")]
            assert torch.allclose(weight, wanted, atol=1e-6), name
    resumed = starting_weights.read(tmp_path / "run" / checkpoint.LAST)
    assert isinstance(resumed, checkpoint.Checkpoint)


class Heard(Reporters):
    """Notes the steps that were validated."""

    def __init__(self) -> None:
        super().__init__()
        self.validated_at: list[int] = []

    def on_validation(self, step: int, errors: Errors, *, best: bool) -> None:
        self.validated_at.append(step)


def test_another_encoder_and_no_model_are_refused(model: Path, tmp_path: Path) -> None:
    wider = encoders.build(recipe(width=32))
    with pytest.raises(CheckpointError, match="another encoder"):
        starting_weights.load_into(wider, model)
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff\xfe no protobuf")
    with pytest.raises(CheckpointError, match="no readable model file"):
        starting_weights.load_into(wider, junk)
    with pytest.raises(CheckpointError, match="no readable model file"):
        starting_weights.load_into(wider, tmp_path / "none.onnx")
