"""A toy model and real speech for tests that embed: fixtures for a conftest to import."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from service.audio import decoding
from service.contract import Contract

__all__ = ["model_file", "speech_manifest", "write_calls"]

DEMO = Path(__file__).parents[2] / "demo" / "audio"
RATE = 16_000


def toy_model(dim: int = 24) -> onnx.ModelProto:
    """`waveform (batch, samples) -> embedding (batch, dim)`: random filters, how loud each is."""
    rng = np.random.default_rng(0)
    filters = rng.normal(size=(dim, 1, 128)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Unsqueeze", ["waveform", "one"], ["channel"]),
        onnx.helper.make_node("Conv", ["channel", "filters"], ["heard"], strides=[64]),
        onnx.helper.make_node("Abs", ["heard"], ["loud"]),
        onnx.helper.make_node("ReduceMean", ["loud", "two"], ["level"], keepdims=0),
        onnx.helper.make_node("LpNormalization", ["level"], ["embedding"], axis=1, p=2),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "toy",
        [onnx.helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, ["b", "n"])],
        [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["b", dim])],
        [
            onnx.numpy_helper.from_array(filters, "filters"),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
            onnx.numpy_helper.from_array(np.array([2]), "two"),
        ],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    contract = Contract("toy-1", RATE, RATE, RATE // 2, RATE // 4, dim)
    onnx.helper.set_model_props(model, contract.to_metadata())
    return model


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    onnx.save(toy_model(), path)
    return path


@pytest.fixture(scope="session")
def speech_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the demo's speech: 12 made speakers, the demo's four at three speeds, two
    thirds of them of split dev, each with four clips of one second or two."""
    folder = tmp_path_factory.mktemp("speech")
    rows = ["path,speaker,corpus,split,gender"]
    for voice in sorted(path for path in DEMO.iterdir() if path.is_dir()):
        speech = np.concatenate([_samples(path) for path in sorted(voice.iterdir())])
        for speed in (0.85, 1.0, 1.2):
            name = f"{voice.name}{speed:g}"
            split = "train" if speed == 1.2 else "dev"
            changed = soxr.resample(speech, RATE * speed, RATE)
            for take in range(4):
                start, length = int((0.5 + 3 * take) * RATE), (2 - take % 2) * RATE
                path = folder / f"{name}-{take}.wav"
                soundfile.write(path, changed[start : start + length], RATE)
                rows.append(f"{path.name},{name},demo,{split},{'f' if speed < 1 else 'm'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def write_calls(folder: Path) -> Path:
    """Write a manifest of 24 made callers on one 8 kHz line, the demo's four at six speeds, each
    with four recordings of two seconds in two sessions, and of 40 whose speaker is blank."""
    rows = ["path,speaker,session,handset"]
    for voice in sorted(path for path in DEMO.iterdir() if path.is_dir()):
        speech = np.concatenate([_samples(path) for path in sorted(voice.iterdir())])
        for speed in (0.8, 0.88, 0.96, 1.05, 1.14, 1.25):
            changed = soxr.resample(speech, RATE * speed, RATE / 2)
            takes = changed[: len(changed) // RATE * RATE].reshape(-1, RATE)
            for number, take in enumerate(takes[:6]):
                name = f"{voice.name}-{speed:g}-{number}.wav"
                soundfile.write(folder / name, take, RATE // 2, subtype="ULAW")
                speaker = f"{voice.name}{speed:g}" if number < 4 else ""
                handset = ("desk", "mobile")[number % 2]
                rows.append(f"{name},{speaker},{number // 2 if speaker else ''},{handset}")
    manifest = folder / "calls.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def _samples(path: Path) -> NDArray[np.float32]:
    return decoding.decode(path.read_bytes(), decoding.AudioFormat(), rate=RATE, max_s=60)
