"""CUDA: run a graph on the GPU with buffers that are kept and reused.

    windows -> page-locked -> device ── run, or replay of a captured graph ──> device -> embeddings
               └─── one set of buffers for each shape and each simultaneous run of it ───┘

None of this is used on a CPU. https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

import contextlib
import ctypes
import io
import itertools
import mmap
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_DEVICES = ("nvidia[0-9]*", "dxg")  # in /dev; dxg is WSL's
_DRIVER = "libcuda.so.1"
_PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE: locked for every context of the process

# TF32 keeps 10 bits of a product's factors: voices enrolled on a CPU must stay comparable.
_OPTIONS: Mapping[str, str] = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}

Floats: TypeAlias = NDArray[np.float32]
Memory: TypeAlias = Callable[[tuple[int, int]], Floats]
"""Allocates an array of a shape, from which the device copies."""


def is_available() -> bool:
    """Whether ONNX Runtime is built for CUDA and this machine has a device for it."""
    devices = (device for pattern in _DEVICES for device in Path("/dev").glob(pattern))
    return CUDA in onnxruntime.get_available_providers() and any(devices)


def load_session(
    model: Path,
    options: onnxruntime.SessionOptions,
    *,
    tensorrt: bool = False,
    graphs: bool = False,
) -> onnxruntime.InferenceSession:
    """Load `model` on the GPU; raises any exception that says why that fails, and never falls back
    to the CPU.

    With `tensorrt`, engines are built for the shapes that run, which takes minutes at start.
    """
    if not is_available():
        raise RuntimeError("there is no CUDA device, or this onnxruntime is not built for one")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        onnxruntime.preload_dlls()  # finds the libraries that the `cuda` extra installs
    providers = _list_providers(tensorrt=tensorrt, graphs=graphs)
    session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    if session.get_providers()[0] != providers[0][0]:
        raise RuntimeError(f"{providers[0][0]} did not load {output.getvalue()}".strip())
    return session


def _list_providers(*, tensorrt: bool, graphs: bool) -> list[tuple[str, dict[str, str]]]:
    """List the execution providers, best first, with their options."""
    graphs_option = str(int(graphs))
    cuda = (CUDA, {**_OPTIONS, "enable_cuda_graph": "0" if tensorrt else graphs_option})
    rest = [cuda, (CPU, {})]
    return [(TENSORRT, {"trt_cuda_graph_enable": graphs_option}), *rest] if tensorrt else rest


class BoundSession:
    """Runs a session with buffers that it keeps on `device`; thread-safe.

    Each of several simultaneous runs has its own buffers and CUDA stream. With `graphs` the first
    run of a shape is captured and later ones replay it; as captured runs share working memory, they
    run one at a time.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        dimension: int,
        *,
        device: str = "cuda",
        graphs: bool = False,
        memory: Memory | None = None,
    ) -> None:
        self._session = session
        self._dimension = dimension
        self._device = device
        self._memory = memory or allocate_page_locked
        self._ids = itertools.count(1)
        self._idle: defaultdict[tuple[int, int], list[_Buffers]] = defaultdict(list)
        self._turn = threading.Lock() if graphs else contextlib.nullcontext()

    def __call__(self, windows: Floats) -> Floats:
        """Return the embeddings `(batch, dimension)` of `windows (batch, samples)`."""
        shape = (windows.shape[0], windows.shape[1])
        with self._turn:
            buffers = self._take_buffers(shape)
            embeddings = buffers.run(windows)
            self._idle[shape].append(buffers)  # after an error they are not used again
        return embeddings

    def _take_buffers(self, shape: tuple[int, int]) -> "_Buffers":
        try:
            return self._idle[shape].pop()
        except IndexError:
            return _Buffers(
                self._session,
                waveform=_allocate(self._device, shape),
                embedding=_allocate(self._device, (shape[0], self._dimension)),
                staging=self._memory(shape),
                graph=next(self._ids),
            )


class _Buffers:
    """Fixed buffers for one shape. No other buffers may use the graph number `graph`: a graph that
    is replayed with other buffers would give one caller the embeddings of another."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        waveform: onnxruntime.OrtValue,
        embedding: onnxruntime.OrtValue,
        staging: Floats,
        graph: int,
    ) -> None:
        self._session = session
        self._waveform = waveform
        self._embedding = embedding
        self._staging = staging
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("waveform", waveform)
        self._binding.bind_ortvalue_output("embedding", embedding)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(self, windows: Floats) -> Floats:
        np.copyto(self._staging, windows)
        self._waveform.update_inplace(self._staging)
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._embedding.numpy(), np.float32)  # a copy: the buffer is used again


def _allocate(device: str, shape: tuple[int, int]) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device)


def allocate_page_locked(shape: tuple[int, int]) -> Floats:
    """Allocate memory that the GPU copies from directly, or ordinary memory if the driver cannot
    lock any."""
    pages = mmap.mmap(-1, 4 * shape[0] * shape[1])
    array = np.frombuffer(pages, np.float32).reshape(shape)
    with contextlib.suppress(OSError, AttributeError):  # no driver, or a very old one
        driver = ctypes.CDLL(_DRIVER)
        address = ctypes.c_void_p(array.ctypes.data)
        if driver.cuMemHostRegister_v2(address, ctypes.c_size_t(len(pages)), _PORTABLE) == 0:
            weakref.finalize(pages, driver.cuMemHostUnregister, address)
    return array
