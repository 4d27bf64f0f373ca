import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from numpy.typing import NDArray

from exporters import model_file, parity
from exporters.errors import ExportError, GraphError, ParityError
from exporters.publish import Candidate, Windows, gate, publish
from exporters.voices import SHARED_DATA, load_voices, read_recordings, synthesize_voice
from service.contract import Contract, OperatingPoint
from service.errors import ContractError, ModelError
from service.inference.session import Session


@pytest.fixture
def model(candidate: Candidate, tmp_path: Path) -> Path:
    publish(candidate, tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def _perturbed(candidate: Candidate, by: float) -> Candidate:
    graph = onnx.ModelProto()
    graph.CopyFrom(candidate.graph)
    tensor = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights + np.float32(by), tensor.name))
    return dataclasses.replace(candidate, graph=graph)


def test_a_published_file_says_what_it_is_and_runs(candidate: Candidate, model: Path) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map)
    assert contract.model_id.startswith("tiny-")
    assert len(contract.model_id) == len("tiny-") + 12
    assert (contract.sample_rate, contract.dimension) == (16000, 24)
    assert (contract.window_samples, contract.hop_samples) == (16000, 8000)
    assert (contract.min_speech_samples, contract.short_windows) == (4800, (8000,))
    assert contract.provenance["recipe"] == "random weights"
    assert contract.provenance["tools"]["opset"] == 18
    assert contract.provenance["parity"]["cosine"] >= parity.FLOOR
    audio = synthesize_voice(3, rate=16000, samples=16000)[None]
    embedding = session.run(None, {"waveform": audio})[0]
    assert parity.least_cosine(embedding, candidate.original(audio)) >= parity.FLOOR


def test_parity_holds_over_lengths_and_batches(candidate: Candidate) -> None:
    passed = gate(candidate)
    assert {case.batch for case in passed.cases} == {1, 2, 5}
    assert len({case.samples for case in passed.cases}) == 4
    assert passed.cosine >= parity.FLOOR


@pytest.mark.parametrize("existing", [False, True])
def test_a_drifting_graph_is_refused_and_nothing_is_written(
    candidate: Candidate, tmp_path: Path, existing: bool
) -> None:
    output = tmp_path / "model.onnx"
    if existing:
        output.write_bytes(b"the previous model")
    with pytest.raises(ParityError, match=r"cosine 0\.\d+ at batch"):
        publish(_perturbed(candidate, 0.01), output)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the previous model"] * existing


def test_embeddings_that_are_not_unit_length_are_refused(candidate: Candidate) -> None:
    waveforms = np.ones((2, 400), dtype=np.float32)
    with pytest.raises(ParityError, match="unit length"):
        parity.check(lambda x: x[:, :8] * 2, lambda x: x[:, :8], waveforms, lengths=[400])
    with pytest.raises(ParityError, match="unit length"):
        parity.check(lambda x: x[:, :8] * np.nan, lambda x: x[:, :8], waveforms, lengths=[400])


def test_least_cosine_is_the_worst_row() -> None:
    left = np.eye(3, dtype=np.float32)
    right = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=np.float32)
    assert parity.least_cosine(left, right) == pytest.approx(0.8)
    assert parity.least_cosine(left, right[:2]) == -1


def test_a_batch_that_leaks_into_a_row_is_refused() -> None:
    def leaking(waveforms: parity.Floats) -> parity.Floats:
        mixed = waveforms[:, :8] + waveforms[:, :8].mean(axis=0)
        unit: parity.Floats = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        return unit

    waveforms = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with pytest.raises(ParityError, match="batch"):
        parity.check(leaking, leaking, waveforms, lengths=[8])


def test_rewriting_the_contract_leaves_the_graph_alone(model: Path) -> None:
    before, old = model_file.read(model)
    point = OperatingPoint(0.02)
    new = model_file.rewrite_contract(
        model, lambda contract: dataclasses.replace(contract, operating_point=point)
    )
    after, stored = model_file.read(model)
    assert stored == new == dataclasses.replace(old, operating_point=point)
    assert after.graph == before.graph
    assert model_file.make_model_id("tiny", after) == old.model_id
    with pytest.raises(ExportError, match="another model id"):
        model_file.rewrite_contract(model, lambda c: dataclasses.replace(c, model_id="other"))


def test_an_interrupted_write_leaves_the_old_file(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = model.read_bytes(), set(model.parent.iterdir())

    def fail(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        model_file.write_atomically(model, b"half")
    assert model.read_bytes() == before
    assert set(model.parent.iterdir()) == files


def test_a_model_has_its_digest_beside_it_and_loads_with_no_other(model: Path) -> None:
    beside = model.with_name(f"{model.name}.sha256")
    assert f"sha256:{beside.read_text()}" == f"{model_file.digest(model)}  {model.name}\n"
    Session.open(model, device="cpu")
    beside.write_text(f"{'0' * 64}  {model.name}\n")
    with pytest.raises(ModelError, match="has digest"):
        Session.open(model, device="cpu")


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot write"):
        model_file.write_atomically(tmp_path / "file" / "model.onnx", b"")


def test_files_that_are_no_model_are_refused(candidate: Candidate, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(GraphError, match="cannot read"):
        model_file.read(path)
    path.write_bytes(b"not onnx at all")
    with pytest.raises(GraphError):
        model_file.read(path)
    path.write_bytes(candidate.graph.SerializeToString())
    with pytest.raises(ContractError, match="no Sayso contract"):
        model_file.read(path)
    path.write_bytes(candidate.graph.SerializeToString()[:-1000])
    with pytest.raises(GraphError):
        model_file.read(path)


@pytest.mark.parametrize("name", ["", "Sayso", "a b", "../x", "-x", "x" * 65])
def test_names_that_would_confuse_are_refused(candidate: Candidate, name: str) -> None:
    with pytest.raises(ExportError, match="cannot name a model"):
        model_file.make_model_id(name, candidate.graph)


def test_windows_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(ExportError, match="hop"):
        Windows(window_s=1.0, hop_s=1.5)
    with pytest.raises(ExportError, match="least speech"):
        Windows(min_speech_s=0)
    with pytest.raises(ExportError, match="short windows"):
        Windows(short_s=(3.0,))


def test_made_voices_differ_and_sound_voiced() -> None:
    first, second = (synthesize_voice(seed, rate=16000, samples=32000) for seed in (0, 1))
    assert np.abs(first).max() == pytest.approx(0.3)
    spectrum = np.abs(np.fft.rfft(first)) ** 2
    assert spectrum[: 3500 * 2].sum() > 0.9 * spectrum.sum()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ../shared/data beside the checkout")
def test_real_speech_is_preferred() -> None:
    rows, kind = load_voices(None, rate=8000, samples=12000, count=3)
    assert (rows.shape, kind) == ((3, 12000), "real speech")
    assert rows.std(axis=1).min() > 1e-3


def test_a_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds no"):
        read_recordings(tmp_path, rate=16000, samples=100, count=1)


def _write(path: Path, samples: NDArray[np.float32]) -> Path:
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path.parent


def test_recordings_without_sound_or_with_nan_are_refused(tmp_path: Path) -> None:
    voice = synthesize_voice(0, rate=16000, samples=16000)
    folder = _write(tmp_path / "a.wav", np.zeros(16000, np.float32))
    with pytest.raises(ExportError, match=r"a\.wav: is silent"):
        read_recordings(folder, rate=16000, samples=100, count=1)
    _write(tmp_path / "a.wav", np.where(np.arange(16000) == 99, np.nan, voice))
    with pytest.raises(ExportError, match=r"a\.wav: has samples that are no finite numbers"):
        read_recordings(folder, rate=16000, samples=100, count=1)
    _write(tmp_path / "a.wav", np.stack([np.zeros_like(voice), voice], axis=1))
    with pytest.raises(ExportError, match=r"a\.wav: the first channel is silent"):
        read_recordings(folder, rate=16000, samples=100, count=1)
    _write(tmp_path / "a.wav", voice)
    heard = read_recordings(folder, rate=16000, samples=100, count=1)
    np.testing.assert_allclose(heard, voice[None, :100], atol=2e-5)
