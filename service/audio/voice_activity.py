"""Voice activity: open Silero's model, with the weights of its package in a faster graph.

    weights in the `silero-vad` package ─ arrange ─> voice_activity.onnx, which has no weights

The package needs torch, so it is never imported. `exporters/voice_activity.py` makes the graph and
explains why it is faster.
"""

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.errors import StartupError
from service.onnx_file import read_fields

GRAPH = Path(__file__).with_name("voice_activity.onnx")

MODEL = "silero_vad_16k_sequence.onnx"

_GRAPH, _INITIALIZER = 7, 5  # numbers of fields in a file, and in a graph
_DIMS, _NAME, _NUMBERS = 1, 8, 9  # in an initializer

Floats = NDArray[np.float32]

_log = logging.getLogger(__name__)


def open_session(options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Open the faster graph, or Silero's own if the package's weights do not fit the faster one;
    raises `StartupError`."""
    path = find_package_model()
    try:
        return _open_fast_graph(path, options)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        session = _open_package_graph(path, options)
        _log.warning("voice activity takes longer, this silero-vad is laid out anew (%r)", error)
        return session


def load_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def find_package_model() -> Path:
    """Return the path of the package's model file; raises `StartupError`."""
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / MODEL
        if path.is_file():
            return path
    raise StartupError(
        f"the voice-activity model {MODEL} is not installed; run `pip install --no-deps silero-vad`"
    )


def arrange(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return what the faster graph multiplies by, under its names, from Silero's weights."""

    def taps(layer: int, *chosen: int) -> Floats:
        """A convolution's taps one below the other, `(chosen * inputs, outputs)`."""
        kernel = weights[f"encoder.{layer}.weight"]
        return np.concatenate([kernel[:, :, tap].T for tap in chosen])

    arrays = {
        "dft": weights["stft.forward_basis_buffer"][:, 0, :].T,
        "layer0": taps(0, 0, 1, 2),
        "layer1": taps(1, 0, 1, 2),
        "layer2": taps(2, 1, 2),
        "layer3": taps(3, 1),
        **{f"bias{layer}": weights[f"encoder.{layer}.bias"] for layer in range(4)},
        "lstm_input": weights["onnx::LSTM_209"],
        "lstm_hidden": weights["onnx::LSTM_210"],
        "lstm_bias": weights["onnx::LSTM_211"],
        "score": weights["output.weight"][:, :, 0].T,
        "score_bias": weights["output.bias"],
    }
    return {name: np.ascontiguousarray(values, np.float32) for name, values in arrays.items()}


def read_weights(model: Path) -> dict[str, Floats]:
    """Return the float32 initializers of an ONNX file by name."""
    weights = {}
    for graph in _find_messages(memoryview(model.read_bytes()), _GRAPH):
        for initializer in _find_messages(graph, _INITIALIZER):
            [name], [numbers] = (
                _find_messages(initializer, _NAME),
                _find_messages(initializer, _NUMBERS),
            )
            sizes = (size for field, size in read_fields(initializer) if field == _DIMS)
            shape = [size for size in sizes if isinstance(size, int)]
            weights[bytes(name).decode()] = np.frombuffer(numbers, "<f4").reshape(shape)
    return weights


def _find_messages(data: memoryview, field: int) -> Iterator[memoryview]:
    for number, value in read_fields(data):
        if number == field and isinstance(value, memoryview):
            yield value


def _open_fast_graph(
    path: Path, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    weights = arrange(read_weights(path))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return load_session(GRAPH, options)


def _open_package_graph(
    path: Path, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    try:
        return load_session(path, options)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise StartupError(
            f"{path} is not Silero's; reinstall it with "
            f"`pip install --no-deps --force-reinstall silero-vad` ({error})"
        ) from error
