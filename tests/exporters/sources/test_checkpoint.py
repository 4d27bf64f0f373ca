from pathlib import Path

import pytest
import torch

from exporters import parity
from exporters.errors import CheckpointError
from exporters.publish import Windows, publish
from exporters.sources import checkpoint as checkpoints
from exporters.voices import synthesize_voice
from training import config, encoders
from training.runs import checkpoint
from training.runs.checkpoint import Checkpoint, Progress

WINDOWS = Windows(window_s=1.0, hop_s=0.5)


@pytest.fixture
def run(tiny_recipe: config.Recipe, tmp_path: Path) -> Path:
    """A run's checkpoint whose averaged weights differ from the last step's."""
    last, average = encoders.build(tiny_recipe), encoders.build(tiny_recipe)
    progress = Progress(step=7, best=0.2, data_digest="abc", train_speakers=3, train_clips=30)
    checkpoint.save(
        tmp_path / "best.pt",
        Checkpoint(
            recipe=tiny_recipe,
            progress=progress,
            encoder=last.state_dict(),
            average=average.state_dict(),
            framework={},
            optimizer={},
            random={},
        ),
    )
    return tmp_path / "best.pt"


def test_the_averaged_weights_are_exported(run: Path, tmp_path: Path) -> None:
    candidate = checkpoints.make_candidate(run, name="mine", windows=WINDOWS, licence="CC0-1.0")
    contract = publish(candidate, tmp_path / "mine.onnx")
    assert contract.provenance["licence"] == "CC0-1.0"
    assert contract.provenance["data"] == {"digest": "abc", "speakers": 3, "clips": 30}
    assert contract.provenance["recipe"]["encoder"]["width"] == 16
    assert "step 7" in contract.provenance["source"]
    audio = synthesize_voice(0, rate=16000, samples=16000)[None]
    expected = parity.module_embed(checkpoint.load_encoder(run))(audio)
    actual = parity.graph_embed(candidate.graph)(audio)
    assert parity.least_cosine(actual, expected) >= parity.FLOOR


def _corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def _not_a_checkpoint(path: Path) -> None:
    path.write_text("hello")


def _junk(path: Path) -> None:
    path.write_bytes(Path("/etc/passwd").read_bytes())


def _pickled_object(path: Path) -> None:
    torch.save({"version": 1, "recipe": Path("/")}, path)


def _other_version(path: Path) -> None:
    torch.save({"version": 99}, path)


def _without_recipe(path: Path) -> None:
    torch.save({"version": 1}, path)


def _missing_weights(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["average"].popitem()
    torch.save(content, path)


def _absent(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _corrupt,
        _not_a_checkpoint,
        _junk,
        _pickled_object,
        _other_version,
        _without_recipe,
        _missing_weights,
        _absent,
    ],
)
def test_what_is_no_checkpoint_is_refused(run: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(run)
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        checkpoints.make_candidate(run, name="mine", windows=WINDOWS)
