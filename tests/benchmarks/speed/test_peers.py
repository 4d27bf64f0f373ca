"""Peers embed the same recordings in processes of their own; one that is missing is left out."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.speed import peers
from benchmarks.speed.extractors import EXTRACTORS, Effort, Options, measure_effort
from benchmarks.speed.peers import (
    Material,
    Rate,
    own_figures,
    ratios,
    run_extractor,
    triton_figures,
)
from benchmarks.speed.verifying import send_in_turn
from service.settings import SHIPPED_MODEL

with_model = pytest.mark.skipif(
    not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/"
)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material.prepare(SHIPPED_MODEL, tmp_path_factory.mktemp("peers"))


def test_a_peer_is_compared_with_what_does_as_much() -> None:
    found = {
        "sayso_embedding": [Effort(100.0, 1.0, 50.0)],
        "sayso_pipeline": [Effort(50.0, 1.0, 80.0)],
        "resemblyzer": [Effort(60.0, 1.0, 800.0)],
    }
    made = {one["name"]: one for one in [*own_figures(found, 1), *ratios(found, 1)]}
    assert made["peers_over_resemblyzer"]["value"] == pytest.approx(50 / 60, abs=1e-3)
    assert not made["peers_over_resemblyzer"]["holds"]
    assert made["peers_memory_of_resemblyzer"]["value"] == 10
    assert "peers_over_speechbrain" not in made


def test_servers_are_compared_by_requests() -> None:
    rates = {"triton": [Rate(50.0, 30.0)], "verify": [Rate(40.0, 20.0)]}
    made = {one["name"]: one for one in triton_figures(rates, "a load")}
    assert made["peers_verify_over_triton"]["value"] == 0.8
    assert not made["peers_verify_over_triton"]["holds"]
    assert made["peers_verify_over_triton_by_processor_time"]["value"] == 0.667


def test_whole_rounds_are_counted() -> None:
    calls: list[int] = []
    recordings = [np.zeros(16_000, np.float32), np.zeros(8_000, np.float32)]

    def embed(samples: np.ndarray) -> None:
        calls.append(len(samples))
        np.square(np.ones(200_000)).sum()

    spent = measure_effort(embed, recordings, seconds=0.01)
    assert spent.audio_s == 1.5 * (len(calls) / 2 - 1)
    assert spent.cpu_s >= 0.01
    assert spent.peak_mb > 10


@with_model
def test_the_encoder_on_features_gives_embeddings(material: Material) -> None:
    session = onnxruntime.InferenceSession(material.graph, providers=["CPUExecutionProvider"])
    features = np.random.default_rng(0).normal(size=(1, 240, 80)).astype(np.float32)
    [embedding] = session.run(None, {"x": features})
    assert embedding.shape == (1, 192)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-4)
    assert session.get_modelmeta().custom_metadata_map["framework"] == "wespeaker"


@with_model
@pytest.mark.parametrize("name", ["sayso_embedding", "sayso_pipeline", "sherpa_onnx"])
def test_a_process_of_its_own_embeds(name: str, material: Material) -> None:
    spent = run_extractor(name, material, threads=1, seconds=0.01)
    if spent is None:
        pytest.skip(f"{name} is not installed")
    assert spent.audio_s > 60
    assert spent.speed > 0
    assert spent.peak_mb > 20


@with_model
@pytest.mark.skipif(
    importlib.util.find_spec("sherpa_onnx") is not None, reason="sherpa-onnx is installed here"
)
def test_what_is_missing_is_left_out(
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(peers, "PEERS", tmp_path / "python")
    assert run_extractor("sherpa_onnx", material, threads=1, seconds=0.01) is None
    assert "sherpa_onnx is left out" in capsys.readouterr().out


@with_model
def test_extractors_embed_recordings_whole(material: Material) -> None:
    options = Options(SHIPPED_MODEL, material.graph, material.width, threads=1)
    samples = np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)
    embedding = EXTRACTORS["sayso_embedding"](options)(samples)
    assert np.shape(embedding) == (1, 192)  # type: ignore[call-overload]


@with_model
@pytest.mark.skipif(not peers.TRITON.exists(), reason="no Triton: `make peers` installs it")
def test_triton_answers_the_same_load() -> None:
    with peers.start_triton(SHIPPED_MODEL, 1, 48_000) as served:
        answers = send_in_turn(served.address, [served.request] * 4, 2, method=served.method)
        assert sorted(answers.which) == [0, 1, 2, 3]
        assert served.cpu_s() > 0
