import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.contract import METADATA_KEY
from service.errors import ContractError, ModelError, SettingsError
from service.inference import cuda
from service.inference.cuda import BoundSession
from service.inference.session import CPU_BATCH, Device, Session

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]
has_cuda = cuda.is_available()


def some_windows(clips: list[Samples], samples: int, count: int, seed: int) -> Samples:
    chance = random.Random(seed)
    starts = [(clip, chance.randrange(len(clip) - samples)) for clip in clips * count][:count]
    return np.stack([clip[start : start + samples] for clip, start in starts])


def cosines(left: Samples, right: Samples) -> Samples:
    norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    cosines: Samples = (left * right).sum(axis=-1) / norms
    return cosines


# --- a good model --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_an_embedding_is_the_same_alone_and_in_any_batch(
    session: Session, clips: list[Samples], seed: int
) -> None:
    windows = some_windows(clips, session.contract.window_samples, 9, seed)
    alone = np.concatenate([session.run(window[None]) for window in windows])
    assert cosines(alone, np.roll(alone, 1, axis=0)).min() < 0.9999
    chance = random.Random(seed)
    for _ in range(4):
        chosen = chance.sample(range(9), chance.randint(2, 9))
        assert cosines(session.run(windows[chosen]), alone[chosen]).min() >= 0.99999


def test_embeddings_are_unit_vectors_of_the_contracts_dimension(
    session: Session, clips: list[Samples]
) -> None:
    for samples in (session.contract.window_samples, *session.contract.short_windows):
        embeddings = session.run(some_windows(clips, samples, 3, 0))
        assert embeddings.shape == (3, session.contract.dimension)
        assert embeddings.dtype == np.float32
        assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-4)


def test_it_describes_itself(save_model: SaveModel) -> None:
    told = Session.open(save_model(), device="cpu", threads=1).describe()
    assert told["model id"] == "tiny"
    assert told["provider"] == "CPUExecutionProvider"
    assert told["window"] == "2 s, one every 1 s"


@pytest.mark.parametrize("options", [{"spinning": True}, {"threads": 2}, {"max_batch": 5}])
def test_thread_settings_do_not_change_the_result(
    save_model: SaveModel, clips: list[Samples], options: dict[str, int]
) -> None:
    path = save_model()
    windows = some_windows(clips, 32_000, 3, 0)
    plain = Session.open(path, device="cpu", threads=1).run(windows)
    other = Session.open(path, device="cpu", **options).run(windows)  # type: ignore[arg-type]
    assert cosines(plain, other).min() >= 0.99999


# --- a bad file ----------------------------------------------------------------------------------


def test_a_missing_file_names_the_path_and_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx.*SAYSO_MODEL"):
        Session.open(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="no model file"):
        Session.open(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(save_model: SaveModel, kept: float) -> None:
    path = save_model()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelError, match="damaged"):
        Session.open(path, device="cpu")


def test_bytes_that_are_no_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(random.Random(0).randbytes(10_000))
    with pytest.raises(ModelError, match="damaged"):
        Session.open(path, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_name": "audio"}, "audio tensor"),
        ({"kind": TensorProto.DOUBLE}, r"waveform tensor\(double\)"),
        ({"waveform_shape": (1, "samples")}, "two dynamic axes"),
        ({"waveform_shape": ("batch", 32_000)}, "two dynamic axes"),
    ],
)
def test_another_graph_is_refused(
    save_model: SaveModel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Session.open(save_model(**options), device="cpu", threads=1)


def test_a_length_that_the_graph_cannot_take_is_refused(save_model: SaveModel) -> None:
    path = save_model(changed={"short_windows": (100,)})
    with pytest.raises(ModelError, match=r"does not run on windows \(1, 100\)"):
        Session.open(path, device="cpu", threads=1)


# --- a bad contract ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 12}, "of dimension 12"),
        ({"across_batch": True}, r"\(1, 16\) for a batch of 4"),
        ({"unit": False}, "not L2-normalised"),
        ({"contract": None}, "no Sayso contract"),
    ],
)
def test_a_contract_that_contradicts_the_graph_is_refused(
    save_model: SaveModel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        Session.open(save_model(**options), device="cpu", threads=1)


@pytest.mark.parametrize(
    ("change", "message"), [({"schema_version": 99}, "version 99"), ({"hop": 1}, "malformed")]
)
def test_a_contract_of_another_schema_is_refused(
    save_model: SaveModel, change: dict[str, object], message: str
) -> None:
    path = save_model()
    model = onnx.load(path)
    document = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {METADATA_KEY: json.dumps({**document, **change})})
    onnx.save(model, path)
    with pytest.raises(ContractError, match=message):
        Session.open(path, device="cpu", threads=1)


# --- devices -------------------------------------------------------------------------------------


def test_a_batch_is_as_large_as_suits_the_device_unless_said(save_model: SaveModel) -> None:
    assert Session.open(save_model(), device="cpu", threads=1).max_batch == CPU_BATCH
    assert Session.open(save_model(), device="cpu", threads=1, max_batch=9).max_batch == 9


@pytest.mark.skipif(has_cuda, reason="there is a CUDA device")
def test_without_a_device_auto_is_the_cpu_and_says_nothing(
    save_model: SaveModel, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Session.open(save_model(), threads=1).provider == "CPUExecutionProvider"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(has_cuda, reason="there is a CUDA device")
@pytest.mark.parametrize(("device", "name"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_without_a_device_what_was_asked_for_is_refused(
    save_model: SaveModel, device: Device, name: str
) -> None:
    with pytest.raises(SettingsError, match=rf"{name} was.*no CUDA device.*`cuda` extra"):
        Session.open(save_model(), device=device)


@pytest.mark.skipif(has_cuda, reason="there is a CUDA device")
def test_a_device_that_does_not_work_is_told_and_left(
    save_model: SaveModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    assert Session.open(save_model(), threads=1).provider == "CPUExecutionProvider"
    assert "CUDA cannot be used" in caplog.text
    with pytest.raises(SettingsError, match="CUDA was asked for"):
        Session.open(save_model(), device="cuda")


class Device0:
    """Stands for the GPU: a CPU session, bound to buffers on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, works: bool = True) -> None:
        self.asked: list[dict[str, bool]] = []
        self.ran: list[tuple[int, ...]] = []
        self._works = works
        monkeypatch.setattr(cuda, "is_available", lambda: True)
        monkeypatch.setattr(cuda, "load_session", self._load)
        monkeypatch.setattr(cuda, "BoundSession", self._bound)

    def _load(
        self, path: Path, options: onnxruntime.SessionOptions, **asked: bool
    ) -> onnxruntime.InferenceSession:
        self.asked.append(asked)
        return onnxruntime.InferenceSession(path, options, providers=[cuda.CPU])

    def _bound(
        self, inference: onnxruntime.InferenceSession, dimension: int, **chosen: Any
    ) -> Callable[[Samples], Samples]:
        run = BoundSession(inference, dimension, device="cpu", **chosen)

        def told(windows: Samples) -> Samples:
            if not self._works:
                raise RuntimeError("no kernel image is available")
            self.ran.append(windows.shape)
            return run(windows)

        return told


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("device", ["auto", "cuda", "tensorrt"])
def test_a_device_runs_what_the_cpu_would(
    save_model: SaveModel,
    clips: list[Samples],
    monkeypatch: pytest.MonkeyPatch,
    device: Device,
    graphs: bool,
) -> None:
    gpu = Device0(monkeypatch)
    path = save_model()
    session = Session.open(path, device=device, threads=1, max_batch=3, cuda_graphs=graphs)
    assert gpu.asked == [{"tensorrt": device == "tensorrt", "graphs": graphs}]
    assert gpu.ran == [(1, 32_000), (3, 32_000)]
    windows = some_windows(clips, 32_000, 3, 0)
    plain = Session.open(path, device="cpu", threads=1).run(windows)
    assert np.array_equal(session.run(windows), plain)


def test_a_device_that_loads_but_does_not_run_is_left(
    save_model: SaveModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Device0(monkeypatch, works=False)
    session = Session.open(save_model(), threads=1)
    assert session.run(np.zeros((1, 32_000), np.float32)).shape == (1, 16)
    assert "no kernel image" in caplog.text
    with pytest.raises(ModelError, match=r"does not run.*no kernel image"):
        Session.open(save_model(), device="cuda")


def test_the_cpu_is_not_asked_for_a_device(
    save_model: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Device0(monkeypatch)
    Session.open(save_model(), device="cpu", threads=1)
    assert gpu.asked == []


@pytest.mark.skipif(not has_cuda, reason="needs a CUDA device")
@pytest.mark.parametrize("graphs", [False, True])
def test_cuda_agrees_with_the_cpu(model_path: Path, clips: list[Samples], graphs: bool) -> None:
    cpu = Session.open(model_path, device="cpu")
    gpu = Session.open(model_path, device="cuda", cuda_graphs=graphs)
    assert gpu.provider == "CUDAExecutionProvider"
    for seed in range(3):  # a graph is captured, then replayed
        windows = some_windows(clips, cpu.contract.window_samples, 5, seed)
        assert cosines(cpu.run(windows), gpu.run(windows)).min() >= 0.9999
