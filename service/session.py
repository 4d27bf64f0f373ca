"""Session: the model file, checked against its own contract, warmed up, and run."""

import contextlib
import hashlib
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.contract import Contract
from service.errors import ContractError, ModelError, SettingsError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Windows: TypeAlias = NDArray[np.float32]  # (batch, samples)
Embeddings: TypeAlias = NDArray[np.float32]  # (batch, dimension)

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
_CUDA_DEVICES = ("nvidia[0-9]*", "dxg")  # in /dev; dxg is WSL's
_ERRORS_ONLY = 3
_UNIT_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


class Session:
    """Maps windows of speech to embeddings; `run` may be called from any thread."""

    def __init__(self, inference: onnxruntime.InferenceSession, contract: Contract) -> None:
        self._inference = inference
        self.contract = contract

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        device: Device = "auto",
        threads: int = 0,
        spinning: bool = False,
        max_batch: int = 2,
    ) -> Self:
        """Loads and checks a model, and runs it once on every length and on 1 and `max_batch`.

        `auto` takes CUDA where it works. `threads` share one batch (0: one per core); `spinning`
        keeps them busy between batches, which helps only where nothing else wants the cores.
        Raises `ModelError` for a file that is not a waveform-in, embedding-out graph,
        `ContractError` when its contract is unreadable or contradicts it, and `SettingsError`
        when `cuda` cannot be had.
        """
        if not path.is_file():
            raise ModelError(f"there is no model file at {path}; correct SAYSO_MODEL")
        _check_digest(path)
        inference = _load(path, device, _options(threads, spinning=spinning))
        contract = Contract.from_metadata(inference.get_modelmeta().custom_metadata_map)
        _check_graph(inference, contract)
        session = cls(inference, contract)
        _warm_up(session, max_batch)
        return session

    @property
    def provider(self) -> str:
        """What runs the graph: `CUDAExecutionProvider` or `CPUExecutionProvider`."""
        return str(self._inference.get_providers()[0])

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
        [embeddings] = self._inference.run(["embedding"], {"waveform": windows})
        return np.asarray(embeddings, np.float32)


def _options(threads: int, *, spinning: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def _load(
    path: Path, device: Device, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    if device == "cuda" or (device == "auto" and _cuda_present()):
        try:
            return _on_cuda(path, options)
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            if device == "cuda":
                raise SettingsError(
                    f"CUDA was asked for but cannot be used: {error}; install the `cuda` extra "
                    "and NVIDIA's driver, or let the device be `auto` or `cpu`"
                ) from error
            _log.warning("CUDA cannot be used, so the CPU is: %s", error)
    try:
        return onnxruntime.InferenceSession(path, options, providers=[_CPU])
    except Exception as error:
        raise ModelError(
            f"{path} is damaged, or no model that ONNX Runtime can run; fetch it again, or make it "
            f"again with `sayso-export` ({error})"
        ) from error


def digest_file(path: Path) -> Path:
    """Where a model's digest is kept, in the format of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def _check_digest(path: Path) -> None:
    """A model with a digest beside it loads only if it has that digest."""
    if not (beside := digest_file(path)).exists():
        return
    expected = beside.read_text().split()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if expected[:1] != [found]:
        raise ModelError(
            f"{path} has digest {found}, not the one in {beside.name}; fetch or export it again"
        )


def _cuda_present() -> bool:
    devices = (device for pattern in _CUDA_DEVICES for device in Path("/dev").glob(pattern))
    return _CUDA in onnxruntime.get_available_providers() and any(devices)


def _on_cuda(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    if not _cuda_present():
        raise RuntimeError("there is no CUDA device, or this onnxruntime is not built for one")
    with contextlib.redirect_stdout(io.StringIO()) as complaints:
        onnxruntime.preload_dlls()  # finds the libraries that the `cuda` extra installs
    providers = [(_CUDA, _CUDA_OPTIONS), _CPU]
    inference = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    if inference.get_providers()[0] != _CUDA:
        raise RuntimeError(f"its provider did not load {complaints.getvalue()}".strip())
    return inference


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


def _warm_up(session: Session, max_batch: int) -> None:
    """Allocates what real batches will need, and sees that they give unit vectors."""
    contract, noise = session.contract, np.random.default_rng(0)
    for samples in (contract.window_samples, *contract.short_windows):
        for batch in sorted({1, max_batch}):
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


def _contradiction(contract: Contract, found: str) -> ContractError:
    return ContractError(
        f"the model's embeddings are {found}, its contract says L2-normalised and of dimension "
        f"{contract.dimension}; export it again with `sayso-export`"
    )
