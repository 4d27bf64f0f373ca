"""A voice activity that takes everything for speech, at no cost, for unmodified servers.

The service finds Silero's model in the `silero_vad` package; here a package of that name comes
first, with a graph of the same inputs and outputs that does nothing.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from benchmarks.processes import set_environment
from service.audio.speech import CONTEXT_SAMPLES, FRAME_SAMPLES

MODEL = Path("silero_vad") / "data" / "silero_vad_16k_sequence.onnx"

_OPSET = 18
_STATE = [1, 1, 128]


@contextmanager
def replace_voice_activity() -> Iterator[Path]:
    """Let servers started within this context take all audio for speech; yields their model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        path.parent.mkdir(parents=True)
        (path.parent.parent / "__init__.py").touch()
        onnx.save(make_graph(), path)
        searched = filter(None, (folder, os.environ.get("PYTHONPATH")))
        with set_environment(PYTHONPATH=os.pathsep.join(searched)):
            yield path


def make_graph() -> onnx.ModelProto:
    """Make a graph of frames (n, 576) and a state to a probability of 1 each, and the same
    state."""
    frames = _floats("input", ["n", CONTEXT_SAMPLES + FRAME_SAMPLES])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Shape", ["input"], ["count"], start=0, end=1),
        helper.make_node("ConstantOfShape", ["count"], ["speech_probs"], value=one),
        helper.make_node("Identity", ["h"], ["hn"]),
        helper.make_node("Identity", ["c"], ["cn"]),
    ]
    graph = helper.make_graph(
        nodes,
        "all speech",
        [frames, _floats("h", _STATE), _floats("c", _STATE)],
        [_floats("speech_probs", ["n"]), _floats("hn", _STATE), _floats("cn", _STATE)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)


def _floats(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
