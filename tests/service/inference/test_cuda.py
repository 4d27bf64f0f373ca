"""Buffers that stay, on the CPU: ONNX Runtime binds them there just as on a GPU."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from service.inference import cuda
from service.inference.cuda import BoundSession, allocate_page_locked

Samples = NDArray[np.float32]
SaveModel = Callable[..., Path]
DIMENSION = 16  # of the tiny model


@pytest.fixture(scope="module")
def inference(save_model: SaveModel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(save_model(), options, providers=[cuda.CPU])


def windows_of(seed: int, batch: int = 3, samples: int = 8_000) -> Samples:
    noise = np.random.default_rng(seed).normal(0, 0.1, (batch, samples))
    return noise.astype(np.float32)


def plain(inference: onnxruntime.InferenceSession, windows: Samples) -> Samples:
    [embeddings] = inference.run(["embedding"], {"waveform": windows})
    return np.asarray(embeddings)


def bound(inference: onnxruntime.InferenceSession, *, graphs: bool = False) -> BoundSession:
    return BoundSession(inference, DIMENSION, device="cpu", graphs=graphs)


@pytest.mark.parametrize("graphs", [False, True])
def test_buffers_used_again_give_what_a_plain_run_gives(
    inference: onnxruntime.InferenceSession, graphs: bool
) -> None:
    run = bound(inference, graphs=graphs)
    given = [windows_of(seed, batch, samples) for seed in range(3) for batch, samples in SHAPES]
    results = [run(windows) for windows in given]
    for windows, result in zip(given, results, strict=True):
        assert np.array_equal(result, plain(inference, windows))


SHAPES = [(1, 8_000), (3, 8_000), (3, 4_000)]


def test_results_stay_when_the_buffers_are_used_again(
    inference: onnxruntime.InferenceSession,
) -> None:
    run = bound(inference)
    first = run(windows_of(0))
    kept = first.copy()
    run(windows_of(1))
    assert np.array_equal(first, kept)
    assert first.flags.owndata


def test_windows_may_lie_anywhere_in_memory(inference: onnxruntime.InferenceSession) -> None:
    apart = windows_of(0, batch=6)[::2]
    assert np.array_equal(bound(inference)(apart), plain(inference, apart.copy()))


def test_runs_at_once_never_share_buffers(inference: onnxruntime.InferenceSession) -> None:
    workers, together = 4, Barrier(4)
    run = bound(inference)

    def embed(seed: int) -> bool:
        windows = windows_of(seed)
        expected = plain(inference, windows)
        together.wait()
        return all(np.array_equal(run(windows), expected) for _ in range(20))

    with ThreadPoolExecutor(workers) as pool:
        assert all(pool.map(embed, range(workers)))


class Watched:
    """A session that says how many runs of it there are at once."""

    def __init__(self, inference: onnxruntime.InferenceSession) -> None:
        self._inference = inference
        self._lock, self._now = Lock(), 0
        self.most = 0
        self.graphs: list[str] = []

    def io_binding(self) -> onnxruntime.IOBinding:
        return self._inference.io_binding()

    def run_with_iobinding(
        self, binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions
    ) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self._inference.run_with_iobinding(binding, options)
        with self._lock:
            self._now -= 1


def test_captured_graphs_run_one_at_a_time(inference: onnxruntime.InferenceSession) -> None:
    watched = Watched(inference)
    run = bound(watched, graphs=True)  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: run(windows_of(seed, batch=16)), range(24)))
    assert watched.most == 1
    assert set(watched.graphs) == {"1"}


def test_each_set_of_buffers_has_a_graph_of_its_own(
    inference: onnxruntime.InferenceSession,
) -> None:
    watched = Watched(inference)
    run = bound(watched, graphs=True)  # type: ignore[arg-type]
    for batch in (1, 2, 1, 3, 2):
        run(windows_of(0, batch=batch))
    assert watched.graphs == ["1", "2", "1", "3", "2"]


def test_buffers_of_a_failed_run_are_dropped(inference: onnxruntime.InferenceSession) -> None:
    run = bound(inference)
    with pytest.raises(Exception, match="Conv"):
        run(windows_of(0, samples=10))  # shorter than the kernel
    assert np.array_equal(run(windows_of(0)), plain(inference, windows_of(0)))


def test_memory_is_page_locked_or_ordinary() -> None:
    array = allocate_page_locked((3, 5))
    assert array.shape == (3, 5)
    assert array.dtype == np.float32
    array[:] = 1
    assert array.sum() == 15


class Driver:
    """Stands for NVIDIA's."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.locked: list[tuple[int | None, int | None]] = []
        self.released: list[int | None] = []

    def cuMemHostRegister_v2(self, address: object, size: object, flags: int) -> int:
        self.locked.append((address.value, size.value))  # type: ignore[attr-defined]
        return self._status

    def cuMemHostUnregister(self, address: object) -> int:
        self.released.append(address.value)  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize("status", [0, 1])
def test_memory_is_released_if_it_was_locked(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    driver = Driver(status)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    array = allocate_page_locked((2, 8))
    address = array.ctypes.data
    assert driver.locked == [(address, 64)]
    assert driver.released == []
    del array
    assert driver.released == ([address] if status == 0 else [])


@pytest.mark.parametrize(
    ("tensorrt", "graphs", "names", "chosen"),
    [
        (False, False, [cuda.CUDA, cuda.CPU], {"enable_cuda_graph": "0"}),
        (False, True, [cuda.CUDA, cuda.CPU], {"enable_cuda_graph": "1"}),
        (True, True, [cuda.TENSORRT, cuda.CUDA, cuda.CPU], {"trt_cuda_graph_enable": "1"}),
    ],
)
def test_providers_are_asked_for_best_first(
    tensorrt: bool, graphs: bool, names: list[str], chosen: dict[str, str]
) -> None:
    providers = cuda._list_providers(tensorrt=tensorrt, graphs=graphs)
    assert [name for name, _ in providers] == names
    assert chosen.items() <= providers[0][1].items()
    assert dict(providers)[cuda.CUDA]["use_tf32"] == "0"


@pytest.mark.skipif(cuda.is_available(), reason="there is a CUDA device")
def test_loading_says_that_there_is_no_device(save_model: SaveModel) -> None:
    with pytest.raises(RuntimeError, match="no CUDA device"):
        cuda.load_session(save_model(), onnxruntime.SessionOptions())


@pytest.mark.skipif(cuda.is_available(), reason="there is a CUDA device")
def test_a_provider_that_does_not_load_is_an_error_here_and_not_the_cpu(
    save_model: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for tensorrt in (False, True):
        with pytest.raises(Exception, match=r"(?i)cuda|tensorrt|load"):
            cuda.load_session(save_model(), options, tensorrt=tensorrt)
