"""Weights between the start and the end of a run."""

from pathlib import Path

import onnx
import pytest
import torch

from exporters.graph import trace
from tests.training.runs.test_starting_weights import recipe
from training import encoders
from training.encoders import SpeakerEncoder
from training.errors import CheckpointError
from training.runs.averaging import average_with_start
from training.runs.checkpoint import Checkpoint, Progress


def make_encoder(seed: int) -> SpeakerEncoder:
    torch.manual_seed(seed)
    encoder = encoders.build(recipe())
    for name, held in encoder.state_dict().items():
        if held.is_floating_point():
            torch.nn.init.uniform_(held, *((0.5, 1.5) if "running_var" in name else (-0.3, 0.3)))
    return encoder.eval()


def write_graph(encoder: SpeakerEncoder, path: Path) -> Path:
    onnx.save(trace(encoder, torch.randn(2, 8000)), path)
    return path


def make_checkpoint(encoder: SpeakerEncoder) -> Checkpoint:
    weights = encoder.state_dict()
    progress = Progress(4, 0.1, "digest", train_speakers=4, train_clips=8)
    return Checkpoint(recipe(), progress, weights, weights, {}, {}, {})


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_weight_lies_between_start_and_end(tmp_path: Path, share: float) -> None:
    start, end = make_encoder(1), make_encoder(2)
    run = make_checkpoint(end)
    averaged = average_with_start(run, write_graph(start, tmp_path / "start.onnx"), share)
    assert averaged.progress == run.progress
    for weights in (averaged.encoder, averaged.average):
        assert weights.keys() == end.state_dict().keys()
        for name, value in weights.items():
            began, ended = start.state_dict()[name], end.state_dict()[name]
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - share) * began + share * ended)
            else:
                assert torch.equal(value, ended)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    other = encoders.build(recipe(width=24)).eval()
    start = write_graph(other, tmp_path / "other.onnx")
    with pytest.raises(CheckpointError, match="another encoder"):
        average_with_start(make_checkpoint(make_encoder(2)), start, 0.5)
