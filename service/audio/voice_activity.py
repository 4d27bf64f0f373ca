"""Silero's model of voice activity, from its `silero-vad` package, in a quicker graph.

    the package's weights ─ arranged ─> voice_activity.onnx, which holds none

The package itself, which wants torch, is never imported. What the graph computes, and why that is
quicker, is said in `exporters/voice_activity.py`, which makes it.
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
_DIMS, _NAME, _NUMBERS = 1, 8, 9  # in an initialiser

Floats = NDArray[np.float32]

_log = logging.getLogger(__name__)


def session(options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """In the quicker graph, or in Silero's own where the package's weights are not those that it
    was made for; raises `StartupError`."""
    path = installed()
    try:
        return _quicker(path, options)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        found = _own(path, options)
        _log.warning("voice activity takes longer, this silero-vad is laid out anew (%r)", error)
        return found


def load(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def installed() -> Path:
    """The model file of the package; raises `StartupError`."""
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / MODEL
        if path.is_file():
            return path
    raise StartupError(
        f"the voice-activity model {MODEL} is not installed; run `pip install --no-deps silero-vad`"
    )


def arranged(weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """What the graph multiplies with, by its own names, from Silero's."""

    def taps(layer: int, *kept: int) -> Floats:
        """A convolution's taps one below the other, `(kept * inputs, outputs)`."""
        kernel = weights[f"encoder.{layer}.weight"]
        return np.concatenate([kernel[:, :, tap].T for tap in kept])

    found = {
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
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


def weights(model: Path) -> dict[str, Floats]:
    """The float32 initialisers of an ONNX file."""
    found = {}
    for graph in _messages(memoryview(model.read_bytes()), _GRAPH):
        for initializer in _messages(graph, _INITIALIZER):
            [name], [numbers] = _messages(initializer, _NAME), _messages(initializer, _NUMBERS)
            sizes = (size for field, size in read_fields(initializer) if field == _DIMS)
            shape = [size for size in sizes if isinstance(size, int)]
            found[bytes(name).decode()] = np.frombuffer(numbers, "<f4").reshape(shape)
    return found


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in read_fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _quicker(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    found = arranged(weights(path))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in found.values()]
    options.add_external_initializers(list(found), values)
    return load(GRAPH, options)


def _own(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return load(path, options)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise StartupError(
            f"{path} is not Silero's; reinstall it with "
            f"`pip install --no-deps --force-reinstall silero-vad` ({error})"
        ) from error
