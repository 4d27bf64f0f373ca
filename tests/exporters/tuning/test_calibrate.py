import asyncio
from pathlib import Path

import numpy as np
import pytest

from evaluation.experiments.request import Request
from exporters import model_file, parity
from exporters.errors import TrialError
from exporters.publish import Candidate, publish
from exporters.tuning import calibrate
from exporters.voices import synthesize_voice
from service.contract import Calibration, Contract, OperatingPoint, ScoreKind


@pytest.fixture
def model(candidate: Candidate, trial_request: Request) -> Path:
    publish(candidate, trial_request.model)
    return trial_request.model


@pytest.fixture
def request_for(trial_request: Request, direct: type, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setattr(calibrate, "SaysoModel", direct)
    return trial_request


def test_calibration_goes_into_the_contract_and_embeddings_stay(
    request_for: Request, model: Path
) -> None:
    audio = synthesize_voice(99, rate=16000, samples=16000)[None]
    graph, before = model_file.read(model)
    fitted = asyncio.run(
        calibrate.fit(request_for, target_false_match_rate=0.1, cohort_split="train")
    )
    calibrate.write(model, fitted)
    rewritten, after = model_file.read(model)
    assert after.model_id == before.model_id
    assert np.array_equal(parity.graph_embed(graph)(audio), parity.graph_embed(rewritten)(audio))
    assert before.calibration is None
    assert after.calibration is not None
    assert "16 speakers (made)" in after.calibration.fitted_on
    assert after.calibration.weights["cosine"] > 0
    rates = [rate for rate, _ in after.calibration.false_match]
    assert rates == sorted(rates, reverse=True)
    assert after.operating_point is not None
    assert after.operating_point.target_false_match_rate == 0.1
    assert after.cohort is not None
    assert (after.cohort.count, after.cohort.top_n) == (4, 4)
    assert after.cohort.source == "4 speakers of the train split"


def test_a_calibration_can_be_fitted_on_normalised_scores(
    request_for: Request, model: Path
) -> None:
    """And the next fit needs no cohort of its own."""
    fitted = asyncio.run(calibrate.fit(request_for, cohort_split="train", kind=ScoreKind.AS_NORM))
    after = calibrate.write(model, fitted)
    assert after.calibration is not None
    assert after.calibration.score is ScoreKind.AS_NORM
    assert model_file.read(model)[1] == after
    plain = asyncio.run(calibrate.fit(request_for, cohort_split="train"))
    assert plain.calibration.score is ScoreKind.COSINE
    assert plain.calibration.weights != fitted.calibration.weights
    again = asyncio.run(calibrate.fit(request_for, kind=ScoreKind.AS_NORM))
    assert again.cohort is None
    assert again.calibration == fitted.calibration


def test_normalised_scores_need_a_cohort_of_other_speakers(
    request_for: Request, model: Path
) -> None:
    with pytest.raises(TrialError, match="--cohort-split"):
        asyncio.run(calibrate.fit(request_for, kind=ScoreKind.AS_NORM))
    with pytest.raises(TrialError, match="shares speakers"):
        asyncio.run(calibrate.fit(request_for, cohort_split="dev", kind=ScoreKind.AS_NORM))


def test_every_length_of_the_heard_side_adds_its_trials(request_for: Request, model: Path) -> None:
    whole = asyncio.run(calibrate.fit(request_for, lengths_s=(None,)))
    both = asyncio.run(calibrate.fit(request_for, lengths_s=(0.5, None)))
    assert (both.trials, both.targets) == (2 * whole.trials, 2 * whole.targets)
    assert both.speakers == whole.speakers
    assert "net speech heard 0.5 s, all" in both.calibration.fitted_on
    assert "net speech heard all" in whole.calibration.fitted_on


def test_conditions_add_trials_and_a_cohort_on_every_kind_of_line(
    request_for: Request, model: Path
) -> None:
    plain = asyncio.run(calibrate.fit(request_for, lengths_s=(None,)))
    lines = ("clean", "steep line", "G.711 mu-law")
    fitted = asyncio.run(
        calibrate.fit(
            request_for,
            lengths_s=(None,),
            conditions=lines,
            cohort_conditions=("steep line",),
            cohort_split="train",
            kind=ScoreKind.AS_NORM,
        )
    )
    assert fitted.trials == (1 + 2 * 2) * plain.trials
    assert "as recorded and with steep line, G.711 mu-law" in fitted.calibration.fitted_on
    assert fitted.cohort is not None
    assert fitted.cohort.count == 2 * 4
    assert "4 speakers of the train split, as recorded and with steep line" in fitted.cohort.source
    assert fitted.calibration.rewards_poor_quality == ()


def test_a_copy_can_be_calibrated(request_for: Request, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    fitted = asyncio.run(calibrate.fit(request_for))
    calibrate.write(model, fitted, tmp_path / "copy.onnx")
    assert model.read_bytes() == before
    assert model_file.read(tmp_path / "copy.onnx")[1].calibration == fitted.calibration


def _measured(*rates: float) -> Calibration:
    return Calibration(0.0, {"cosine": 1.0}, tuple((rate, 0.0) for rate in rates), "")


def test_the_operating_rate_is_one_that_was_measured() -> None:
    assert calibrate.choose_operating_rate(_measured(0.1, 0.01, 0.001), None) == 0.01
    assert calibrate.choose_operating_rate(_measured(0.1, 0.05), None) == 0.05
    assert calibrate.choose_operating_rate(_measured(0.1, 0.05), 0.07) == 0.07
    with pytest.raises(TrialError, match=r"rate of 0\.01: the lowest is 0\.05"):
        calibrate.choose_operating_rate(_measured(0.1, 0.05), 0.01)
    with pytest.raises(TrialError, match="too few"):
        calibrate.choose_operating_rate(_measured(), None)


def test_a_second_fit_keeps_the_cohort(model: Path) -> None:
    contract: Contract = model_file.read(model)[1]
    fitted = calibrate.Fitted(
        _measured(0.1), OperatingPoint(0.1), None, trials=1, targets=1, speakers=1
    )
    assert fitted.into(contract).cohort is contract.cohort
