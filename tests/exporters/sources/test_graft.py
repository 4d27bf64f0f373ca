"""Feature-in ONNX files as the toolkits export them, here with small random networks."""

import dataclasses
import functools
import hashlib
import http.server
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from exporters import parity
from exporters.errors import ExportError, GraphError
from exporters.parity import Floats
from exporters.publish import gate, publish
from exporters.sources import adopt, graft
from exporters.voices import load_voices


class Pooled(nn.Module):
    """(batch, frames, mels) -> (batch, 16), by convolution, mean and deviation."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(mels, 16, 5, padding=2)
        self.head = nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, 16))

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv(features.transpose(1, 2)).relu()
        pooled = torch.cat([hidden.mean(dim=2), hidden.var(dim=2).sqrt()], dim=1)
        embedding: Tensor = self.head(pooled)
        return embedding


class MaskedPooled(Pooled):
    """NeMo's shape: (batch, mels, frames) and how many frames count -> logits and embedding."""

    def forward(self, features: Tensor, length: Tensor) -> Any:  # type: ignore[override]
        hidden = self.conv(features).relu()
        kept = (torch.arange(features.shape[2])[None] < length[:, None]).float()[:, None]
        mean = (hidden * kept).sum(dim=2) / length[:, None]
        embedding = self.head(torch.cat([mean, mean.square()], dim=1))
        return embedding[:, :4], embedding


def exported(
    model: nn.Module,
    arguments: tuple[Tensor, ...],
    path: Path,
    *,
    names: tuple[list[str], list[str]],
    axes: dict[str, dict[int, str]],
    metadata: dict[str, str] | None = None,
    opset: int = 14,
) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            arguments,
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=names[0],
            output_names=names[1],
            dynamic_axes=axes,
        )
    loaded = onnx.load_model(path)
    onnx.helper.set_model_props(loaded, metadata or {})
    onnx.save_model(loaded, path)
    return path


def wespeaker(path: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "names": (["feats"], ["embs"]),
        "axes": {"feats": {0: "B", 1: "T"}, "embs": {0: "B"}},
    }
    return exported(Pooled(80), (torch.ones(1, 200, 80),), path, **(settings | changes))


THREE_D_SPEAKER = {
    "framework": "3d-speaker",
    "sample_rate": "16000",
    "normalize_samples": "1",
    "feature_normalize_type": "global-mean",
    "url": "https://example.org/model",
}
NEMO = {
    "framework": "nemo",
    "sample_rate": "16000",
    "feature_normalize_type": "per_feature",
    "window_size_ms": "25",
    "window_stride_ms": "10",
    "window_type": "hann",
    "feat_dim": "80",
}


def three_d_speaker(path: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "names": (["x"], ["embedding"]),
        "axes": {"x": {0: "N", 1: "T"}},
        "metadata": THREE_D_SPEAKER,
        "opset": 13,
    }
    return exported(Pooled(80), (torch.ones(1, 100, 80),), path, **(settings | changes))


def nemo(path: Path) -> Path:
    return exported(
        MaskedPooled(80),
        (torch.ones(2, 80, 100), torch.tensor([100, 100])),
        path,
        names=(["audio_signal", "length"], ["logits", "embs"]),
        axes={
            "audio_signal": {0: "batch", 2: "time"},
            "length": {0: "batch"},
            "logits": {0: "batch"},
            "embs": {0: "batch"},
        },
        metadata=NEMO,
        opset=16,
    )


def kaldi_features(row: Floats, *, window: str, scale: float) -> Floats:
    features = kaldi.fbank(
        torch.from_numpy(row[None]) * scale, num_mel_bins=80, window_type=window, dither=0.0
    )
    centered: Floats = (features - features.mean(dim=0)).numpy()[None]
    return centered


def nemo_features(row: Floats) -> Floats:
    """As `AudioToMelSpectrogramPreprocessor` documents them, by torch.stft and librosa."""
    emphasised = np.append(row[:1], row[1:] - 0.97 * row[:-1]).astype(np.float32)
    spectrum = torch.stft(
        torch.from_numpy(emphasised),
        n_fft=512,
        hop_length=160,
        win_length=400,
        window=torch.hann_window(400, periodic=False),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=0, fmax=8000)
    features = torch.log(torch.from_numpy(filters) @ spectrum.abs() ** 2 + 2**-24)
    deviation = features.std(dim=1, keepdim=True) + 1e-5
    normalized: Floats = ((features - features.mean(dim=1, keepdim=True)) / deviation).numpy()[None]
    return normalized


def run_alone(path: Path, output: str, feed: dict[str, Any]) -> Floats:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    raw: Floats = session.run([output], feed)[0]
    unit: Floats = raw / np.linalg.norm(raw)
    return unit


@pytest.fixture(scope="module")
def speech() -> Floats:
    return load_voices(None, rate=16000, samples=33333, count=2)[0]


def test_wespeaker_is_told_by_its_names(tmp_path: Path, speech: Floats) -> None:
    path = wespeaker(tmp_path / "voxceleb_resnet34.onnx")
    candidate = graft.make_candidate(path)
    together = parity.graph_embed(candidate.graph)(speech)
    for row, ours in zip(speech, together, strict=True):
        features = kaldi_features(row, window="hamming", scale=32768)
        theirs = run_alone(path, "embs", {"feats": features})
        assert parity.least_cosine(ours[None], theirs) >= parity.FLOOR
    assert candidate.name == "voxceleb-resnet34"
    assert gate(candidate).cosine >= parity.FLOOR


def test_three_d_speaker_is_told_by_its_metadata(tmp_path: Path, speech: Floats) -> None:
    path = three_d_speaker(tmp_path / "eres2net.onnx")
    candidate = graft.make_candidate(path)
    ours = parity.graph_embed(candidate.graph)(speech[:1])
    features = kaldi_features(speech[0], window="povey", scale=1)
    theirs = run_alone(path, "embedding", {"x": features})
    assert parity.least_cosine(ours, theirs) >= parity.FLOOR
    assert candidate.provenance["source"] == "https://example.org/model"
    contract = publish(candidate, tmp_path / "adopted.onnx")
    assert contract.provenance["tools"]["opset"] == 13


def test_nemo_counts_its_frames_and_puts_mels_first(tmp_path: Path, speech: Floats) -> None:
    path = nemo(tmp_path / "titanet.onnx")
    candidate = graft.make_candidate(path)
    ours = parity.graph_embed(candidate.graph)(speech[:1])
    features = nemo_features(speech[0])
    theirs = run_alone(
        path, "embs", {"audio_signal": features, "length": np.array([features.shape[2]])}
    )
    assert parity.least_cosine(ours, theirs) >= parity.FLOOR
    assert gate(candidate).cosine >= parity.FLOOR


def test_what_a_file_does_not_say_can_be_given(tmp_path: Path) -> None:
    path = three_d_speaker(tmp_path / "m.onnx", metadata={})
    with pytest.raises(GraphError, match="give --features, one of wespeaker, 3d-speaker, nemo"):
        graft.make_candidate(path)
    assert graft.make_candidate(path, "3d-speaker").provenance["features"] == "3d-speaker"


def test_features_that_no_front_end_makes_are_refused(tmp_path: Path) -> None:
    metadata = THREE_D_SPEAKER | {"feature_normalize_type": "per-utterance-variance"}
    path = three_d_speaker(tmp_path / "m.onnx", metadata=metadata)
    with pytest.raises(GraphError, match="per-utterance-variance are not supported"):
        graft.make_candidate(path)


def test_declared_sizes_that_the_graph_does_not_need_become_dynamic(tmp_path: Path) -> None:
    class PerFrame(Pooled):
        def forward(self, features: Tensor) -> Tensor:
            embedding: Tensor = features.mean(dim=1)[:, :16]
            return embedding

    path = exported(
        PerFrame(80),
        (torch.ones(1, 150, 80),),
        tmp_path / "m.onnx",
        names=(["feats"], ["embs"]),
        axes={},
    )
    shape = graft.make_candidate(path).graph.graph.input[0].type.tensor_type.shape
    assert [axis.dim_param for axis in shape.dim] == ["batch", "samples"]


def test_a_graph_of_fixed_shape_is_refused(tmp_path: Path) -> None:
    class Fixed(Pooled):
        def forward(self, features: Tensor) -> Tensor:
            embedding: Tensor = features.reshape(1, 150 * 80)[:, :16]
            return embedding

    path = exported(
        Fixed(80),
        (torch.ones(1, 150, 80),),
        tmp_path / "m.onnx",
        names=(["feats"], ["embs"]),
        axes={},
    )
    with pytest.raises(GraphError, match="exported at a fixed shape"):
        graft.make_candidate(path)


def test_another_number_of_mels_is_told(tmp_path: Path) -> None:
    path = exported(
        Pooled(83),
        (torch.ones(1, 150, 83),),
        tmp_path / "m.onnx",
        names=(["feats"], ["embs"]),
        axes={"feats": {0: "B", 1: "T"}},
    )
    with pytest.raises(GraphError, match="cannot tell mels from frames"):
        graft.make_candidate(path)


def test_external_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    path = wespeaker(tmp_path / "m.onnx")
    model = onnx.load_model(path)
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(GraphError, match=r"weights\.bin"):
        graft.make_candidate(path)


def test_a_waveform_model_is_not_a_feature_model(tmp_path: Path, candidate: Any) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(candidate.graph.SerializeToString())
    with pytest.raises(GraphError, match="not features"):
        graft.make_candidate(path)


def test_operators_outside_onnx_are_refused(tmp_path: Path) -> None:
    path = wespeaker(tmp_path / "m.onnx")
    model = onnx.load_model(path)
    model.opset_import.add(domain="com.example", version=1)
    onnx.save_model(model, path)
    with pytest.raises(GraphError, match=r"outside ONNX: com\.example"):
        graft.make_candidate(path)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `tmp_path`."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_needs_its_digest(tmp_path: Path, web: str) -> None:
    digest = hashlib.sha256(wespeaker(tmp_path / "m.onnx").read_bytes()).hexdigest()
    request = adopt.Request(f"{web}/m.onnx", licence="CC-BY-4.0", sha256=digest)
    with adopt.make_candidate(request) as found:
        assert found.provenance["source"] == f"{web}/m.onnx"
        assert found.provenance["checkpoint"] == f"sha256:{digest}"
    for changes, match in (
        ({"sha256": "0" * 64}, "has sha256:"),
        ({"sha256": None}, "--sha256"),
        ({"source": f"{web}/none.onnx"}, "cannot download"),
    ):
        other = dataclasses.replace(request, **changes)
        with pytest.raises(ExportError, match=match), adopt.make_candidate(other):
            pass


def test_a_licence_must_be_named(tmp_path: Path) -> None:
    path = wespeaker(tmp_path / "m.onnx")
    with (
        pytest.raises(ExportError, match="--licence"),
        adopt.make_candidate(adopt.Request(str(path))),
    ):
        pass
    request = adopt.Request(str(path), licence="CC-BY-4.0", origin="https://example.org")
    with adopt.make_candidate(request) as found:
        contract = publish(found, tmp_path / "adopted.onnx")
    assert contract.provenance["licence"] == "CC-BY-4.0"
    assert contract.provenance["source"] == "https://example.org"
