"""The check of a GPU where there is none, and its parity on models that agree and do not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from benchmarks import figures
from benchmarks.speed import gpu_check
from benchmarks.speed.gpu_check import (
    CHECKS,
    LEAST_COSINE,
    Mode,
    least_cosine,
    main,
    measure_parity,
)
from service.inference import cuda
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import ROOT

without = pytest.mark.skipif(cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def shipped() -> Session:
    if not SHIPPED_MODEL.is_file():
        pytest.skip(f"no {SHIPPED_MODEL.name} in models/")
    return Session.open(SHIPPED_MODEL, device="cpu", threads=1)


def damaged(folder: Path, share: float) -> Session:
    """The model that ships, its weights off by so much of themselves."""
    model = onnx.load(SHIPPED_MODEL)
    chance = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name.startswith("encoder") and values.dtype == np.float32:
            off = values * (1 + share * chance.standard_normal(values.shape, dtype=np.float32))
            tensor.CopyFrom(numpy_helper.from_array(off, tensor.name))
    onnx.save(model, folder / "damaged.onnx")
    return Session.open(folder / "damaged.onnx", device="cpu", threads=1)


@without
@pytest.mark.parametrize(("require", "status"), [([], 0), (["--require"], 1)])
def test_without_a_gpu_it_says_what_it_skipped_and_why(require: list[str], status: int) -> None:
    held = figures.RESULTS / "gpu.json"
    before = held.read_bytes() if held.exists() else None
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.gpu_check", *require],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"skipped {name}" for name in CHECKS]
    assert all("no CUDA device" in line or "not built for CUDA" in line for line in lines)
    assert (held.read_bytes() if held.exists() else None) == before


def test_it_tells_an_onnx_runtime_without_cuda_from_a_machine_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda.CPU])
    assert main([]) == 0
    assert "not built for CUDA, it has CPUExecutionProvider" in capsys.readouterr().out


def test_a_model_agrees_with_itself(shipped: Session) -> None:
    assert measure_parity(shipped, Session.open(SHIPPED_MODEL, device="cpu", threads=2)) > 0.999999


def test_a_damaged_model_does_not_agree(shipped: Session, tmp_path: Path) -> None:
    assert measure_parity(damaged(tmp_path, 0.1), shipped) < LEAST_COSINE


def test_what_is_not_finite_does_not_agree() -> None:
    ones = np.ones((2, 3), np.float32)
    assert least_cosine(ones, ones) == pytest.approx(1)
    assert least_cosine(ones, np.array([[1, 1, 1], [np.nan, 1, 1]], np.float32)) == -1
    assert least_cosine(ones, np.array([[1, 1, 1], [0, 0, 0]], np.float32)) == -1


@pytest.mark.parametrize(("share", "status"), [(0.0, 0), (0.1, 1)])
def test_the_whole_check_on_what_stands_for_a_gpu(
    shipped: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    share: float,
    status: int,
) -> None:
    session = damaged(tmp_path, share) if share else shipped
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_check, "explain_unavailable", lambda: "")
    monkeypatch.setattr(gpu_check, "BATCHES", (1, 2))
    monkeypatch.setattr(gpu_check, "VOICES", 2)
    monkeypatch.setattr(gpu_check, "RUNS", 1)
    monkeypatch.setattr(gpu_check, "CPU_BATCH", 1)
    monkeypatch.setattr(gpu_check, "MODES", gpu_check.MODES[:1])
    monkeypatch.setattr(Mode, "open", lambda mode, model: session)
    assert main(["--rounds", "1"]) == status
    assert (tmp_path / "gpu.json").is_file()
    told = capsys.readouterr().out
    assert "cuda: CPUExecutionProvider" in told
    assert ("wrong: cuda_cosine_short_of_1" in told) == bool(status)
    assert "cuda_streams_allowed" in told
