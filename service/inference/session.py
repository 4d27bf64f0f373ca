"""Session: load a model file, check it against its own contract, warm it up and run it."""

import hashlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeAlias, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.contract import Contract
from service.errors import ContractError, ModelError, SettingsError, StartupError
from service.inference import cuda
from service.onnx_file import require_self_contained

Device: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt"]
Windows: TypeAlias = NDArray[np.float32]  # (batch, samples)
Embeddings: TypeAlias = NDArray[np.float32]  # (batch, dimension)

Run: TypeAlias = Callable[[Windows], Embeddings]

_AnySession = TypeVar("_AnySession", bound="Session")

_NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT"}
_ERRORS_ONLY = 3
CPU_BATCH, GPU_BATCH = 4, 16  # windows; a core gains nothing by more
_UNIT_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


class Session:
    """Maps windows of speech to embeddings; `run` is thread-safe."""

    def __init__(
        self,
        inference: onnxruntime.InferenceSession,
        contract: Contract,
        bound: Run | None = None,
        *,
        max_batch: int = 0,
    ) -> None:
        self._inference = inference
        self._run = bound or partial(_run_unbound, inference)
        self.contract = contract
        self.max_batch = max_batch or (CPU_BATCH if self.on_cpu else GPU_BATCH)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        device: Device = "auto",
        threads: int = 0,
        spinning: bool = False,
        max_batch: int = 0,
        cuda_graphs: bool = False,
    ) -> Self:
        """Load and check a model, and run it once on every window length with batches of 1 and
        `max_batch` (0: what suits the device).

        `auto` uses CUDA if it works. `threads` share one batch (0: one per core); `spinning` keeps
        them busy between batches, which helps only if nothing else needs the cores. `cuda_graphs`
        replays captured graphs, one batch at a time. Raises `ModelError` for a file that is not a
        waveform-in, embedding-out graph, `ContractError` if its contract is unreadable or
        contradicts the graph, and `SettingsError` if `cuda` or `tensorrt` cannot be used.
        """
        if not path.is_file():
            raise ModelError(f"there is no model file at {path}; correct SAYSO_MODEL")
        _check_digest(path)
        require_self_contained(path)
        options = _make_options(threads, spinning=spinning)
        if device != "cpu" and (device != "auto" or cuda.is_available()):
            try:
                inference = cuda.load_session(
                    path, options, tensorrt=device == "tensorrt", graphs=cuda_graphs
                )
                contract = _read_contract(inference)
                bound = cuda.BoundSession(inference, contract.dimension, graphs=cuda_graphs)
                return _warm_up(cls(inference, contract, bound, max_batch=max_batch))
            except Exception as error:  # ONNX Runtime's errors share no narrower base
                if device == "auto":
                    _log.warning("CUDA cannot be used, so the CPU is: %s", error)
                elif isinstance(error, StartupError):
                    raise
                else:
                    raise _make_device_error(device, error) from error
        inference = _load_on_cpu(path, options)
        return _warm_up(cls(inference, _read_contract(inference), max_batch=max_batch))

    @property
    def provider(self) -> str:
        """The provider that runs the graph: `CPUExecutionProvider`, or that of CUDA or TensorRT."""
        return str(self._inference.get_providers()[0])

    @property
    def on_cpu(self) -> bool:
        return self.provider == cuda.CPU

    def describe(self) -> dict[str, str]:
        """Return what `sayso info` prints about the model and its runtime."""
        contract = self.contract
        return {
            "model id": contract.model_id,
            "provider": self.provider,
            "runtime": f"onnxruntime {onnxruntime.__version__}",
            "sample rate": f"{contract.sample_rate} Hz",
            "window": f"{contract.window_s:g} s, one every {contract.hop_s:g} s",
            "least net speech": f"{contract.min_speech_s:g} s",
            "dimension": str(contract.dimension),
        }

    def run(self, windows: Windows) -> Embeddings:
        """Return the L2-normalized embeddings `(batch, dimension)` of `windows (batch,
        samples)`."""
        return self._run(windows)


def _make_options(threads: int, *, spinning: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.enable_mem_pattern = False  # a plan for each shape takes memory and saves no time
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def _load_on_cpu(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(path, options, providers=[cuda.CPU])
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise ModelError(
            f"{path} is damaged, or no model that ONNX Runtime can run; fetch it again, or make it "
            f"again with `sayso-export` ({error})"
        ) from error


def _run_unbound(inference: onnxruntime.InferenceSession, windows: Windows) -> Embeddings:
    [embeddings] = inference.run(["embedding"], {"waveform": windows})
    return np.asarray(embeddings, np.float32)


def _make_device_error(device: Device, error: Exception) -> SettingsError:
    return SettingsError(
        f"{_NAMES[device]} was asked for but cannot be used: {error}; install the `cuda` extra "
        "and NVIDIA's driver, or let the device be `auto` or `cpu`"
    )


def get_digest_path(path: Path) -> Path:
    """Return the path of a model's digest, which has the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def _check_digest(path: Path) -> None:
    """Raise `ModelError` if there is a digest beside the model and the model's is another."""
    if not (beside := get_digest_path(path)).exists():
        return
    expected = beside.read_text().split()
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if expected[:1] != [actual]:
        raise ModelError(
            f"{path} has digest {actual}, not the one in {beside.name}; fetch or export it again"
        )


def _read_contract(inference: onnxruntime.InferenceSession) -> Contract:
    contract = Contract.from_metadata(inference.get_modelmeta().custom_metadata_map)
    _check_graph(inference, contract)
    return contract


def _check_graph(inference: onnxruntime.InferenceSession, contract: Contract) -> None:
    """Raise for any graph but `waveform (batch, samples) -> embedding (batch, dimension)`."""
    inputs, outputs = inference.get_inputs(), inference.get_outputs()
    names = [value.name for value in (*inputs, *outputs)]
    types = {value.type for value in (*inputs, *outputs)}
    if names != ["waveform", "embedding"] or types != {"tensor(float)"}:
        raise ModelError(
            f"the model maps {_describe_values(inputs)} to {_describe_values(outputs)}, not one "
            "float waveform to one float embedding; export it with `sayso-export`"
        )
    if len(inputs[0].shape) != 2 or any(isinstance(size, int) for size in inputs[0].shape):
        raise ModelError(
            f"the model's waveform has shape {inputs[0].shape}, not two dynamic axes (batch, "
            "samples); export it with `sayso-export`"
        )
    dimension = outputs[0].shape[-1] if outputs[0].shape else None
    if isinstance(dimension, int) and dimension != contract.dimension:
        raise _make_contradiction(contract, f"of dimension {dimension}")


def _describe_values(values: Iterable[onnxruntime.NodeArg]) -> str:
    return ", ".join(f"{value.name} {value.type}" for value in values)


def _warm_up(session: _AnySession) -> _AnySession:
    """Run every shape once, so that its memory is allocated, and check that the embeddings are unit
    vectors; raises `ModelError` or `ContractError`."""
    contract, noise = session.contract, np.random.default_rng(0)
    for samples in (contract.window_samples, *contract.short_windows):
        for batch in sorted({1, session.max_batch}):
            windows = noise.normal(0, 0.1, (batch, samples)).astype(np.float32)
            try:
                embeddings = session.run(windows)
            except Exception as error:
                raise ModelError(
                    f"the model does not run on windows {windows.shape}: {error}"
                ) from error
            if embeddings.shape != (batch, contract.dimension):
                raise _make_contradiction(contract, f"{embeddings.shape} for a batch of {batch}")
            if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=_UNIT_TOLERANCE):
                raise _make_contradiction(contract, "not L2-normalised")
    return session


def _make_contradiction(contract: Contract, actual: str) -> ContractError:
    return ContractError(
        f"the model's embeddings are {actual}, its contract says L2-normalised and of dimension "
        f"{contract.dimension}; export it again with `sayso-export`"
    )
