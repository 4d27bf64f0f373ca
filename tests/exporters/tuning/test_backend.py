"""Back-ends in the graph: the projection's numbers, another model id, and only where it helps."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.degrade import channels
from evaluation.errors import EvaluationError
from evaluation.experiments.request import Request
from evaluation.metrics.bootstrap import Interval
from evaluation.metrics.comparison import Difference
from evaluation.scoring import backends
from exporters import model_file, parity
from exporters.errors import ExportError
from exporters.publish import Candidate, publish
from exporters.tuning import backend
from exporters.tuning.backend import Fitting, Judged, Kind
from exporters.voices import synthesize_voice
from service.contract import Calibration, OperatingPoint
from service.inference.session import Session

FEW = Fitting(Kind.WHITENING, clips=12)


def waveforms(count: int = 6) -> parity.Floats:
    return np.stack([synthesize_voice(seed, rate=16000, samples=16000) for seed in range(count)])


@pytest.fixture
def request_for(
    candidate: Candidate,
    trial_request: Request,
    direct: type,
    monkeypatch: pytest.MonkeyPatch,
) -> Request:
    monkeypatch.setattr(backend, "SaysoModel", direct)
    publish(candidate, trial_request.model)
    calibrated = Calibration(0.0, {"cosine": 1.0}, ((0.1, 0.0),), "")
    model_file.rewrite_contract(
        trial_request.model,
        lambda contract: replace(
            contract, calibration=calibrated, operating_point=OperatingPoint(0.1)
        ),
    )
    return replace(trial_request, replicates=10)


@pytest.mark.parametrize("kind", Kind)
def test_the_graph_gives_what_the_projection_gives(kind: Kind, candidate: Candidate) -> None:
    plain = parity.graph_embed(candidate.graph)(waveforms(40))
    projection = backend.FITS[kind](plain, np.arange(40) // 2, 7)
    whole = parity.graph_embed(backend.append(candidate.graph, projection))
    heard = whole(waveforms())
    assert heard.shape == (6, 7 if kind is Kind.LDA else 24)
    assert parity.least_cosine(projection(plain[:6]), heard) > parity.FLOOR
    assert parity.least_cosine(plain[:6], heard) < 0.999
    alone = np.concatenate([whole(row[None, :8000]) for row in waveforms()])
    assert parity.least_cosine(alone, whole(waveforms()[:, :8000])) > parity.FLOOR


def test_a_forced_back_end_is_a_model_of_its_own(request_for: Request, tmp_path: Path) -> None:
    output = tmp_path / "with.onnx"
    _, before = model_file.read(request_for.model)
    after, judged = asyncio.run(backend.publish(request_for, FEW, output, clips=32, force=True))
    assert [one.trials for one in judged] == ["as recorded"]
    assert after == model_file.read(output)[1]
    assert after.model_id != before.model_id
    assert after.model_id.startswith("tiny-")
    assert (after.calibration, after.operating_point, after.cohort) == (None, None, None)
    assert after.provenance["backend"]["from"] == before.model_id
    assert after.provenance["backend"]["fitted_on"] == "12 clips of 4 speakers of split train"
    assert after.provenance["recipe"] == "random weights"
    assert Session.open(output, device="cpu").contract == after
    with pytest.raises(ExportError, match="has a back-end already"):
        asyncio.run(
            backend.publish(replace(request_for, model=output), FEW, output, clips=32, force=True)
        )


def test_what_does_not_help_is_not_written(
    request_for: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that keeps one useless direction loses to no map at all."""
    worst = backends.Projection(np.zeros(24), np.ones((24, 1)))
    monkeypatch.setitem(backend.FITS, Kind.WHITENING, lambda *_: worst)
    with pytest.raises(ExportError, match="does not help: as recorded: EER"):
        asyncio.run(backend.publish(request_for, FEW, tmp_path / "with.onnx", clips=32))
    assert not (tmp_path / "with.onnx").exists()


def test_cross_channel_fits_and_judges_both_ways(
    request_for: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "ANY", replace(channels.ANY, codecs=("none", "mulaw")))
    crossed = replace(request_for, cross_channel=True)
    output = tmp_path / "with.onnx"
    after, judged = asyncio.run(backend.publish(crossed, FEW, output, clips=32, force=True))
    assert [one.trials for one in judged] == ["as recorded", "cross-channel"]
    plain, _ = asyncio.run(backend.publish(request_for, FEW, output, clips=32, force=True))
    assert after.model_id != plain.model_id
    assert after.provenance["backend"]["cross_channel"]


def test_fitting_speakers_are_not_those_judged(request_for: Request, tmp_path: Path) -> None:
    same = replace(FEW, split="dev")
    with pytest.raises(EvaluationError, match="shares speakers"):
        asyncio.run(backend.publish(request_for, same, tmp_path / "with.onnx", clips=32))


def test_speakers_of_two_corpora_with_one_name_are_two_people(
    request_for: Request, made_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train has speakers 0 to 3 of two other corpora, dev those of the first."""
    rows = [row.split(",") for row in made_corpus.read_text().splitlines()[1:]]
    for number, (name, *_) in enumerate(rows):
        rows[number][0] = str(made_corpus.parent / name)
        if number >= 48:
            rows[number][1:3] = [f"speaker{number // 3 % 2}", f"other{number // 6 % 2}"]
    manifest = tmp_path / "manifest.csv"
    lines = ["path,speaker,corpus,split", *map(",".join, rows)]
    manifest.write_text("\n".join(lines))
    fitted_on: list[int] = []

    def fit(vectors: parity.Floats, speakers: np.ndarray, _: int) -> backends.Projection:
        fitted_on.append(len(np.unique(speakers)))
        return backends.fit_mean_subtraction(vectors)

    monkeypatch.setitem(backend.FITS, Kind.WHITENING, fit)
    asked = replace(request_for, manifest=manifest)
    output = tmp_path / "with.onnx"
    after, _ = asyncio.run(backend.publish(asked, FEW, output, clips=32, force=True))
    assert fitted_on == [4]
    assert "of 4 speakers" in after.provenance["backend"]["fitted_on"]


def test_an_output_that_cannot_be_written_is_told_before_the_work(
    request_for: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "SaysoModel", None)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot write"):
        output = tmp_path / "file" / "with.onnx"
        asyncio.run(backend.publish(request_for, FEW, output, clips=32))


def test_it_helps_when_better_somewhere_and_worse_nowhere() -> None:
    better, same, worse = (
        Judged("made", Difference(0.1, 0.1, Interval(*ends), 0.5))
        for ends in ((-0.02, -0.01), (-0.01, 0.01), (0.01, 0.02))
    )
    assert backend.helps([better, same])
    assert not backend.helps([better, worse])
    assert not backend.helps([same])
