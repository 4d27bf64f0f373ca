"""What is told of batches, decisions and enrolments, as Prometheus reads it."""

from collections.abc import Sequence
from dataclasses import replace

from prometheus_client import REGISTRY

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import Decision, Outcome, Reason, Score
from service.inference.batcher import Batcher
from service.observability import metrics
from tests.support.declared_metrics import list_metrics

HEARD = Quality(net_speech_s=4, total_s=6, snr_db=20, clipping=0, peak_dbfs=-3)
ACCEPTED = Decision(Outcome.ACCEPTED, "model-a", "", score=Score(0.7, 3.5), quality=HEARD)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def of_model(name: str, model_id: str, **labels: str) -> float:
    return sample(name, model_id=model_id, **labels)


async def test_batches() -> None:
    observe = metrics.make_batch_observer("batched")

    def run(items: Sequence[int]) -> list[int]:
        return list(items)

    async with Batcher[int, int](
        run, key=lambda _: 0, max_batch=3, queue_limit=10, observe=observe
    ) as batcher:
        await batcher.submit_all([1, 2, 3, 4])
    assert of_model("sayso_batch_windows_count", "batched") == 2
    assert of_model("sayso_batch_windows_sum", "batched") == 4
    assert of_model("sayso_batch_windows_bucket", "batched", le="2.0") == 1
    assert of_model("sayso_batch_wait_seconds_count", "batched") == 2
    assert of_model("sayso_batch_run_seconds_count", "batched") == 2
    metrics.set_queue("batched", 7)
    assert of_model("sayso_queue_windows", "batched") == 7


def test_a_decision_on_a_claim() -> None:
    before = sample("sayso_net_speech_seconds_sum", kind="verification")
    metrics.count_decision(replace(ACCEPTED, model_id="claimed"))
    labels = {"model_id": "claimed", "outcome": "ACCEPTED"}
    assert sample("sayso_decisions_total", kind="verification", **labels) == 1
    assert sample("sayso_decision_llr_bucket", **labels, le="3.0") == 0
    assert sample("sayso_decision_llr_bucket", **labels, le="4.0") == 1
    assert sample("sayso_decision_llr_bucket", **labels, le="+Inf") == 1
    assert sample("sayso_net_speech_seconds_sum", kind="verification") == before + 4


def test_a_decision_without_audio_or_score() -> None:
    before = sample("sayso_net_speech_seconds_count", kind="verification")
    reasons = sample("sayso_decision_reasons_total", reason="NO_SPEECH")
    metrics.count_decision(Decision(Outcome.NOT_ENROLLED, "unscored", ""))
    metrics.count_decision(
        Decision(
            Outcome.INCONCLUSIVE,
            "unscored",
            "",
            reasons=(Reason.NO_SPEECH, Reason.CLIPPED),
            quality=replace(HEARD, net_speech_s=0),
        )
    )
    for outcome in ("NOT_ENROLLED", "INCONCLUSIVE"):
        labels = {"kind": "verification", "model_id": "unscored", "outcome": outcome}
        assert sample("sayso_decisions_total", **labels) == 1
        assert sample("sayso_decision_llr_bucket", model_id="unscored", outcome=outcome) == 0
    assert sample("sayso_decision_reasons_total", reason="NO_SPEECH") == reasons + 1
    assert sample("sayso_net_speech_seconds_count", kind="verification") == before + 1


def test_a_search_adds_no_ratio() -> None:
    metrics.count_identification(replace(ACCEPTED, model_id="searched"))
    labels = {"model_id": "searched", "outcome": "ACCEPTED"}
    assert sample("sayso_decisions_total", kind="identification", **labels) == 1
    assert REGISTRY.get_sample_value("sayso_decision_llr_bucket", {**labels, "le": "+Inf"}) is None


def test_an_enrolment_that_was_refused() -> None:
    refused = sample("sayso_enrolments_total", state="REFUSED")
    reasons = sample("sayso_enrolment_reasons_total", reason="TOO_NOISY")
    metrics.count_enrollment(None, (Reason.TOO_NOISY,), HEARD)
    assert sample("sayso_enrolments_total", state="REFUSED") == refused + 1
    assert sample("sayso_enrolment_reasons_total", reason="TOO_NOISY") == reasons + 1


def test_what_is_loaded_and_ready() -> None:
    contract = Contract("loaded", 16_000, 32_000, 16_000, 8_000, 16)
    metrics.set_model(contract, "CPUExecutionProvider")
    metrics.set_ready(True)
    assert of_model("sayso_model_info", "loaded", provider="CPUExecutionProvider") == 1
    assert sample("sayso_ready") == 1
    metrics.set_ready(False)
    assert sample("sayso_ready") == 0


def test_no_label_names_a_tenant_or_a_speaker() -> None:
    for each in list_metrics():
        assert not {"tenant", "speaker", "speaker_id"} & set(each.labels), each.name


def test_names_follow_the_conventions() -> None:
    for each in list_metrics():
        assert each.name.startswith(("grpc_server_", "sayso_")), each.name
        assert (each.kind == "counter") == each.name.endswith("_total"), each.name
