import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract import (
    METADATA_KEY,
    Calibration,
    Cohort,
    Contract,
    CountermeasureCalibration,
    CountermeasureContract,
    CountermeasureOperatingPoint,
    OperatingPoint,
    ScoreKind,
)
from service.errors import ContractError

FULL = Contract(
    model_id="ecapa-0123456789ab",
    sample_rate=16000,
    window_samples=48000,
    hop_samples=24000,
    min_speech_samples=8000,
    dimension=4,
    short_windows=(16000, 32000),
    calibration=Calibration(-3.0, {"cosine": 12.5}, ((0.1, -1.0), (0.01, 2.5)), "dev"),
    operating_point=OperatingPoint(0.01),
    cohort=Cohort(np.eye(4, dtype="<f4").tobytes(), count=4, top_n=2, source="train"),
    provenance={"data": ["LibriSpeech"], "licence": "CC BY 4.0"},
    evaluation={"eer": 0.1},
)


def document(**changes: Any) -> dict[str, str]:
    made = json.loads(FULL.to_metadata()[METADATA_KEY])
    made.update(changes)
    return {METADATA_KEY: json.dumps(made)}


def test_it_comes_back_as_it_was_written() -> None:
    assert Contract.from_metadata(FULL.to_metadata()) == FULL


@pytest.mark.parametrize("kind", ScoreKind)
def test_it_says_which_score_it_was_calibrated_on(kind: ScoreKind) -> None:
    assert FULL.calibration is not None
    calibration = dataclasses.replace(FULL.calibration, score=kind)
    read = Contract.from_metadata(dataclasses.replace(FULL, calibration=calibration).to_metadata())
    assert read.calibration == calibration


def test_a_calibration_that_does_not_say_is_one_of_cosines() -> None:
    older = {"bias": 0, "weights": {}, "false_match": [], "fitted_on": "dev"}
    read = Contract.from_metadata(document(calibration=older))
    assert read.calibration == Calibration(0, {}, (), "dev", ScoreKind.COSINE)


@given(
    st.builds(
        Contract,
        model_id=st.text(min_size=1),
        sample_rate=st.integers(8000, 48000),
        window_samples=st.integers(1000, 10**6),
        hop_samples=st.integers(1, 1000),
        min_speech_samples=st.integers(1, 10**6),
        dimension=st.integers(1, 1024),
    )
)
def test_any_plain_contract_comes_back(contract: Contract) -> None:
    assert Contract.from_metadata(contract.to_metadata()) == contract


def test_lengths_are_told_in_seconds() -> None:
    assert (FULL.window_s, FULL.hop_s, FULL.min_speech_s) == (3.0, 1.5, 0.5)


NORMALISED = {"bias": 0, "weights": {}, "false_match": [], "fitted_on": "", "score": "as_norm"}
COHORT = json.loads(FULL.to_metadata()[METADATA_KEY])["cohort"]


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, "carries no Sayso contract"),
        ({METADATA_KEY: "{"}, "not JSON"),
        ({METADATA_KEY: "[]"}, "JSON object"),
        (document(schema_version=2), "schema version 2"),
        (document(schema_version=None), "schema version None"),
        (document(colour="red"), "colour"),
        (document(sample_rate=0), "sample_rate"),
        (document(hop_samples=48001), "hop_samples"),
        (document(short_windows=[48000]), "short_windows"),
        (document(sample_rate="fast"), "malformed"),
        (document(dimension=8), "cohort vectors"),
        (document(operating_point={"target_false_match_rate": 1}), "operating_point"),
        (document(calibration={"bias": 0}), "malformed"),
        (
            document(
                calibration={
                    "bias": float("inf"),
                    "weights": {},
                    "false_match": [],
                    "fitted_on": "",
                }
            ),
            "non-finite",
        ),
        (
            document(
                calibration={
                    "bias": 0,
                    "weights": {},
                    "false_match": [[0.01, 1], [0.1, 0]],
                    "fitted_on": "",
                }
            ),
            "rates must fall",
        ),
        (document(calibration={**NORMALISED, "score": "plda"}), "plda"),
        (document(calibration=NORMALISED, cohort=None), "cohort must be there"),
        (document(calibration=NORMALISED, cohort={**COHORT, "top_n": 1}), "top_n of 2 or more"),
        (document(cohort={"vectors": "!", "count": 1, "top_n": 1, "source": ""}), "malformed"),
    ],
)
def test_anything_else_is_refused(metadata: dict[str, str], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        Contract.from_metadata(metadata)


def test_a_missing_field_is_named() -> None:
    made = json.loads(FULL.to_metadata()[METADATA_KEY])
    del made["model_id"]
    with pytest.raises(ContractError, match="model_id"):
        Contract.from_metadata({METADATA_KEY: json.dumps(made)})


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.dimension = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("weights", "kind", "rewarding"),
    [
        ({}, ScoreKind.COSINE, ()),
        ({"snr": 0.2, "log_test_speech": 0.5}, ScoreKind.COSINE, ()),
        ({"snr": -0.01}, ScoreKind.COSINE, ("snr",)),
        ({"log_test_speech": -0.01, "snr": -1.0}, ScoreKind.COSINE, ("snr", "log_test_speech")),
        ({"cosine_log_test_speech": 0.1}, ScoreKind.COSINE, ("log_test_speech",)),
        ({"cosine_log_test_speech": -0.1, "log_test_speech": 0.1}, ScoreKind.COSINE, ()),
        (
            {"cosine_log_test_speech": 0.1, "log_test_speech": 0.1},
            ScoreKind.AS_NORM,
            ("log_test_speech",),
        ),
        ({"log_enrol_speech": -1.0, "cosine_log_enrol_speech": -1.0}, ScoreKind.COSINE, ()),
    ],
)
def test_it_says_by_which_terms_poor_quality_would_help(
    weights: dict[str, float], kind: ScoreKind, rewarding: tuple[str, ...]
) -> None:
    calibration = Calibration(-3.0, {"cosine": 12.5, **weights}, (), "made", kind)
    assert calibration.rewards_poor_quality == rewarding
    if rewarding:
        with pytest.raises(ContractError, match="calibration accepts more easily"):
            calibration.require_fair_quality()
    else:
        calibration.require_fair_quality()


COUNTERMEASURE = CountermeasureContract(
    model_id="aasist-0123456789ab",
    sample_rate=16000,
    window_samples=64600,
    hop_samples=32300,
    attacks=("espeak", "replay-near"),
    calibration=CountermeasureCalibration(0.5, -1.0, "dev"),
    operating_point=CountermeasureOperatingPoint(-2.0, 0.01, "dev, by telephone"),
    provenance={"licence": "MIT"},
    evaluation={"eer": 0.1},
)


def countermeasure(**changes: Any) -> dict[str, str]:
    made = json.loads(COUNTERMEASURE.to_metadata()[METADATA_KEY])
    return {METADATA_KEY: json.dumps(made | changes)}


def test_a_countermeasures_contract_comes_back_as_it_was_written() -> None:
    written = COUNTERMEASURE.to_metadata()
    assert json.loads(written[METADATA_KEY])["kind"] == "countermeasure"
    assert CountermeasureContract.from_metadata(written) == COUNTERMEASURE


def test_an_uncalibrated_countermeasure_comes_back() -> None:
    plain = CountermeasureContract("m", 16000, 32000, 16000)
    assert CountermeasureContract.from_metadata(plain.to_metadata()) == plain
    assert (plain.calibration, plain.operating_point, plain.attacks) == (None, None, ())


def test_a_logit_becomes_an_llr_of_bona_fide() -> None:
    assert COUNTERMEASURE.calibration is not None
    assert COUNTERMEASURE.calibration.compute_llr(4.0) == 1.0
    assert COUNTERMEASURE.calibration.compute_llr(0.0) == -1.0


def test_a_speaker_models_document_names_no_kind() -> None:
    """Files of older versions, which knew one kind, stay as they were."""
    assert "kind" not in json.loads(FULL.to_metadata()[METADATA_KEY])
    assert Contract.from_metadata(document(kind="speaker")) == FULL


def test_one_kind_of_model_is_never_taken_for_another() -> None:
    with pytest.raises(ContractError, match="holds a countermeasure model, and a speaker model is"):
        Contract.from_metadata(COUNTERMEASURE.to_metadata())
    with pytest.raises(ContractError, match="holds a speaker model, and a countermeasure model is"):
        CountermeasureContract.from_metadata(FULL.to_metadata())
    for kind in ("voice activity", None, ["countermeasure"]):
        with pytest.raises(ContractError, match="model is needed here"):
            Contract.from_metadata(document(kind=kind))
        with pytest.raises(ContractError, match="model is needed here"):
            CountermeasureContract.from_metadata(countermeasure(kind=kind))


def test_a_speaker_models_document_under_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match="malformed"):
        CountermeasureContract.from_metadata(document(kind="countermeasure"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_id": ""}, "model_id"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"hop_samples": 64601}, "hop_samples"),
        ({"dimension": 2}, "dimension"),
        ({"attacks": "espeak"}, "attacks must be a list"),
        ({"attacks": [1]}, "attacks must be names"),
        ({"calibration": None}, "operating_point needs a calibration"),
        ({"calibration": {"scale": 0, "bias": 0, "fitted_on": ""}}, "scale must be positive"),
        ({"calibration": {"scale": -1, "bias": 0, "fitted_on": ""}}, "scale must be positive"),
        ({"calibration": {"scale": 1, "bias": float("nan"), "fitted_on": ""}}, "non-finite"),
        ({"calibration": {"scale": 1}}, "malformed"),
        ({"calibration": []}, "malformed"),
        ({"operating_point": {"threshold": 0}}, "malformed"),
        (
            {"operating_point": {"threshold": 0, "false_alarm_rate": 0, "measured_on": ""}},
            "false_alarm_rate",
        ),
        (
            {"operating_point": {"threshold": "x", "false_alarm_rate": 0.1, "measured_on": ""}},
            "malformed",
        ),
    ],
)
def test_any_other_countermeasures_contract_is_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ContractError, match=problem):
        CountermeasureContract.from_metadata(countermeasure(**changes))
