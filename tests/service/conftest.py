from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.audio.decoding import AudioFormat, decode
from service.audio.speech import VoiceActivity
from service.contract import Contract
from service.inference.session import Session

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "models").glob("*.onnx"))
RATE = 16_000
BANDS, KERNEL, STRIDE = 24, 400, 160

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]


def tiny_contract() -> Contract:
    return Contract(
        model_id="tiny",
        sample_rate=RATE,
        window_samples=2 * RATE,
        hop_samples=RATE,
        min_speech_samples=RATE // 2,
        dimension=16,
    )


def tiny_model(
    *,
    contract: Contract | None,
    dimension: int = 16,
    waveform_shape: tuple[int | str, ...] = ("batch", "samples"),
    input_name: str = "waveform",
    kind: int = TensorProto.FLOAT,
    unit: bool = True,
    across_batch: bool = False,
) -> onnx.ModelProto:
    """Energies of random bands over time, their mean, its logarithm, a projection, L2."""
    chance = np.random.default_rng(7)
    weights = {
        "bands": chance.normal(0, 1 / KERNEL, (BANDS, 1, KERNEL)),
        "projection": chance.normal(0, 1, (BANDS, dimension)),
        "epsilon": np.array(1e-9),
    }
    constants = [numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "channel"))
    nodes = [
        helper.make_node("Cast", [input_name], ["samples"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["samples", "channel"], ["wave"]),
        helper.make_node("Conv", ["wave", "bands"], ["heard"], strides=[STRIDE]),
        helper.make_node("Mul", ["heard", "heard"], ["energy"]),
        helper.make_node("ReduceMean", ["energy"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["mixed"], axes=[0], keepdims=1),
        helper.make_node("Add", ["mixed" if across_batch else "mean", "epsilon"], ["floored"]),
        helper.make_node("Log", ["floored"], ["level"]),
        helper.make_node("MatMul", ["level", "projection"], ["projected"]),
        helper.make_node("ReduceL2", ["projected"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["projected", "norm" if unit else "epsilon"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, kind, waveform_shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", dimension])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if contract is not None:
        helper.set_model_props(model, contract.to_metadata())
    return model


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> SaveModel:
    """Write a tiny real model, changed as asked, and return its path."""

    def save(*, changed: dict[str, Any] | None = None, **options: Any) -> Path:
        options.setdefault("contract", replace(tiny_contract(), **(changed or {})))
        path = tmp_path_factory.mktemp("models") / "tiny.onnx"
        onnx.save(tiny_model(**options), path)
        return path

    return save


@pytest.fixture(scope="session", params=["tiny", *SHIPPED], ids=str)
def model_path(request: pytest.FixtureRequest, save_model: SaveModel) -> Path:
    """The tiny model, and every model that ships."""
    return save_model() if request.param == "tiny" else request.param


@pytest.fixture(scope="session")
def session(model_path: Path) -> Session:
    return Session.open(model_path, device="cpu", threads=1)


@pytest.fixture(scope="session")
def vad() -> VoiceActivity:
    return VoiceActivity.open()


@pytest.fixture(scope="session")
def clips() -> list[Samples]:
    """Two utterances each of two voices, mono at 16 kHz."""
    paths = [ROOT / "demo/audio" / voice for voice in ("awb/verify-1.flac", "slt/verify-1.flac")]
    paths += [path.with_name("verify-2.wav") for path in paths]
    return [decode(path.read_bytes(), AudioFormat(), rate=RATE, max_s=60) for path in paths]
