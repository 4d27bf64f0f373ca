"""Session: the model file, checked against its own contract, warmed up, and run."""

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

_Warm = TypeVar("_Warm", bound="Session")

_NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT"}
_ERRORS_ONLY = 3
CPU_BATCH, GPU_BATCH = 4, 16  # windows; a core gains nothing by more
_UNIT_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


class Session:
    """Maps windows of speech to embeddings; `run` may be called from any thread."""

    def __init__(
        self,
        inference: onnxruntime.InferenceSession,
        contract: Contract,
        bound: Run | None = None,
        *,
        max_batch: int = 0,
    ) -> None:
        self._inference = inference
        self._run = bound or partial(_plain, inference)
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
        """Loads and checks a model, and runs it once on every length and on 1 and `max_batch`
        (0: what suits the device).

        `auto` takes CUDA where it works. `threads` share one batch (0: one per core); `spinning`
        keeps them busy between batches, which helps only where nothing else wants the cores.
        `cuda_graphs` replays what the GPU did on a shape before, one batch at a time.
        Raises `ModelError` for a file that is not a waveform-in, embedding-out graph,
        `ContractError` when its contract is unreadable or contradicts it, and `SettingsError`
        when `cuda` or `tensorrt` cannot be had.
        """
        if not path.is_file():
            raise ModelError(f"there is no model file at {path}; correct SAYSO_MODEL")
        _check_digest(path)
        require_self_contained(path)
        options = _options(threads, spinning=spinning)
        if device != "cpu" and (device != "auto" or cuda.present()):
            try:
                inference = cuda.load(
                    path, options, tensorrt=device == "tensorrt", graphs=cuda_graphs
                )
                contract = _checked(inference)
                bound = cuda.Bound(inference, contract.dimension, graphs=cuda_graphs)
                return _warm(cls(inference, contract, bound, max_batch=max_batch))
            except Exception as error:  # ONNX Runtime's errors share no narrower base
                if device == "auto":
                    _log.warning("CUDA cannot be used, so the CPU is: %s", error)
                elif isinstance(error, StartupError):
                    raise
                else:
                    raise _refused(device, error) from error
        inference = _load(path, options)
        return _warm(cls(inference, _checked(inference), max_batch=max_batch))

    @property
    def provider(self) -> str:
        """What runs the graph: `CPUExecutionProvider`, or that of CUDA or TensorRT."""
        return str(self._inference.get_providers()[0])

    @property
    def on_cpu(self) -> bool:
        return self.provider == cuda.CPU

    def describe(self) -> dict[str, str]:
        """What `sayso info` tells of the model and of what runs it."""
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
        """The L2-normalised embeddings `(batch, dimension)` of `windows (batch, samples)`."""
        return self._run(windows)


def _options(threads: int, *, spinning: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.enable_mem_pattern = False  # a plan for each shape holds memory and saves no time
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def _load(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(path, options, providers=[cuda.CPU])
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise ModelError(
            f"{path} is damaged, or no model that ONNX Runtime can run; fetch it again, or make it "
            f"again with `sayso-export` ({error})"
        ) from error


def _plain(inference: onnxruntime.InferenceSession, windows: Windows) -> Embeddings:
    [embeddings] = inference.run(["embedding"], {"waveform": windows})
    return np.asarray(embeddings, np.float32)


def _refused(device: Device, error: Exception) -> SettingsError:
    return SettingsError(
        f"{_NAMES[device]} was asked for but cannot be used: {error}; install the `cuda` extra "
        "and NVIDIA's driver, or let the device be `auto` or `cpu`"
    )


def digest_file(path: Path) -> Path:
    """Where a model's digest is kept, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def _check_digest(path: Path) -> None:
    """A model with a digest beside it loads only if it has that digest."""
    if not (beside := digest_file(path)).exists():
        return
    expected = beside.read_text().split()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected[:1] != [found]:
        raise ModelError(
            f"{path} has digest {found}, not the one in {beside.name}; fetch or export it again"
        )


def _checked(inference: onnxruntime.InferenceSession) -> Contract:
    contract = Contract.from_metadata(inference.get_modelmeta().custom_metadata_map)
    _check_graph(inference, contract)
    return contract


def _check_graph(inference: onnxruntime.InferenceSession, contract: Contract) -> None:
    """Refuses any graph but `waveform (batch, samples) -> embedding (batch, dimension)`."""
    inputs, outputs = inference.get_inputs(), inference.get_outputs()
    names = [value.name for value in (*inputs, *outputs)]
    types = {value.type for value in (*inputs, *outputs)}
    if names != ["waveform", "embedding"] or types != {"tensor(float)"}:
        raise ModelError(
            f"the model maps {_signature(inputs)} to {_signature(outputs)}, not one float "
            "waveform to one float embedding; export it with `sayso-export`"
        )
    if len(inputs[0].shape) != 2 or any(isinstance(size, int) for size in inputs[0].shape):
        raise ModelError(
            f"the model's waveform has shape {inputs[0].shape}, not two dynamic axes (batch, "
            "samples); export it with `sayso-export`"
        )
    dimension = outputs[0].shape[-1] if outputs[0].shape else None
    if isinstance(dimension, int) and dimension != contract.dimension:
        raise _contradiction(contract, f"of dimension {dimension}")


def _signature(values: Iterable[onnxruntime.NodeArg]) -> str:
    return ", ".join(f"{value.name} {value.type}" for value in values)


def _warm(session: _Warm) -> _Warm:
    """Allocates what real batches will need, and sees that they give unit vectors."""
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
                raise _contradiction(contract, f"{embeddings.shape} for a batch of {batch}")
            if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=_UNIT_TOLERANCE):
                raise _contradiction(contract, "not L2-normalised")
    return session


def _contradiction(contract: Contract, found: str) -> ContractError:
    return ContractError(
        f"the model's embeddings are {found}, its contract says L2-normalised and of dimension "
        f"{contract.dimension}; export it again with `sayso-export`"
    )
