"""A model calibrated on normalised scores, served: every rpc gives the same ratio."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from sayso import Client, Embedding, RawAudio
from sayso.v1 import verification_pb2 as pb
from sayso.v1 import verification_pb2_grpc

from evaluation.scoring import normalization
from evaluation.scoring.normalization import Norm
from service.audio.decoding import AudioFormat, decode
from service.contract import Calibration, Cohort, Contract, ScoreKind
from service.decisions.scoring import l2_normalize
from service.settings import SHIPPED_MODEL
from tests.support.local_server import LocalServer
from tests.support.voices import clips

TOP = 20
SPEAKERS = ("awb", "rms", "slt")


@pytest.fixture(scope="module")
def cohort() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(60, _shipped()[1].dimension))
    return l2_normalize(drawn.astype(np.float32))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, cohort: np.ndarray) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("normalised")
    model, contract = _shipped()
    contract = dataclasses.replace(
        contract,
        calibration=Calibration(
            -2.0, {"cosine": 0.5}, ((0.1, 0.0), (0.01, 1.0)), "made", ScoreKind.AS_NORM
        ),
        cohort=Cohort(cohort.astype("<f4").tobytes(), len(cohort), TOP, "made"),
    )
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, folder / "normalised.onnx")
    with LocalServer(
        store=f"sqlite:///{folder / 'sayso.db'}", model=folder / "normalised.onnx"
    ) as running:
        with running.client() as sayso:
            for speaker in SPEAKERS:
                assert sayso.enroll(speaker, clips(speaker, "enroll")[0]).stored
            sayso.groups.create("callers")
            sayso.groups.add_members("callers", SPEAKERS)
        yield running


def _shipped() -> tuple[onnx.ModelProto, Contract]:
    model = onnx.load(SHIPPED_MODEL)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return model, Contract.from_metadata(metadata)


def _embedding(sayso: Client, path: Path) -> Embedding:
    made = sayso.embed(path)
    assert made is not None
    return made


def _message(made: Embedding) -> pb.Embedding:
    return pb.Embedding(model_id=made.model_id, values=made.values, net_speech_s=made.net_speech_s)


def test_every_rpc_gives_the_ratio_of_the_offline_score(
    server: LocalServer, sayso: Client, cohort: np.ndarray
) -> None:
    call = clips("slt", "verify")[0]
    samples = decode(call.read_bytes(), AudioFormat(), rate=16000, max_s=60)
    linear = (samples * 32767).astype("<i2").tobytes()
    heard = _embedding(sayso, call)
    held = [_embedding(sayso, clips(speaker, "enroll")[0]) for speaker in SPEAKERS]
    with grpc.insecure_channel(server.address) as channel:
        compared = verification_pb2_grpc.VerificationServiceStub(channel).Compare(
            pb.CompareRequest(left=map(_message, held), right=[_message(heard)])
        )
    vectors = np.array([one.values for one in held], np.float32)
    sides = ((vectors, np.arange(3)), (np.array([heard.values], np.float32), np.zeros(3, int)))
    cosines = vectors @ sides[1][0][0]
    scores = normalization.normalize(Norm.AS, cosines.astype(float), *sides, cohort, top_n=TOP)
    expected = dict(zip(SPEAKERS, 0.5 * scores - 2, strict=True))
    assert [each.llr for each in compared.comparisons] == pytest.approx(
        list(expected.values()), abs=1e-4
    )
    assert [each.cosine for each in compared.comparisons] == pytest.approx(cosines, abs=1e-6)
    found = sayso.identify("callers", call, max_candidates=3)
    assert {match.speaker_id: match.llr for match in found.candidates} == pytest.approx(
        expected, abs=1e-3
    )
    for speaker in SPEAKERS:
        whole = sayso.verify(speaker, call)
        *_, last = sayso.verify_stream(speaker, [linear], raw=RawAudio("LINEAR16", 16000))
        assert whole.llr == pytest.approx(expected[speaker], abs=1e-3)
        assert last.llr == pytest.approx(expected[speaker], abs=2e-2)  # of 16-bit samples
    assert found.speaker_id == "slt"
