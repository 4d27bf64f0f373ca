"""Metrics: what the server counts, in `prometheus_client`'s registry of the process.

__init__.py   every metric, and functions that count batches, decisions, enrollments, models, health
calls.py      a guard that counts calls, under the names that gRPC servers conventionally use
store.py      a store whose operations are timed

No label names a tenant or a speaker: not everyone who may read a graph may know who called, and
every value of a label costs a series. Batch sizes add up to the windows that were run.
`service.observability.exposition` serves it all.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram

from service.audio.quality import Quality
from service.contract import Contract
from service.decisions.decision import Decision, Reason
from service.inference.batcher import BatchReport
from service.store import Speaker

_CALL = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model_id",)
_STORE = ("operation",)

_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_BATCH_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_STORE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1, 2.5)
_SPEECH_S = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300)
_LLR = (-12, -10, -8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

STARTED = Counter("grpc_server_started", "Calls started.", _CALL)
HANDLED = Counter("grpc_server_handled", "Calls ended, by status.", (*_CALL, "grpc_code"))
HANDLING_S = Histogram(
    "grpc_server_handling_seconds", "Seconds from start to end of a call.", _CALL, buckets=_CALL_S
)
OPEN = Gauge("sayso_open_calls", "Calls in progress.", _CALL, multiprocess_mode="livesum")
REFUSED = Counter(
    "sayso_refused_calls", "Calls refused, or ended for a newer one, by the limit.", ("limit",)
)

QUEUE = Gauge(
    "sayso_queue_windows", "Windows that wait for the device.", _MODEL, multiprocess_mode="livesum"
)
BATCH = Histogram("sayso_batch_windows", "Windows in a batch.", _MODEL, buckets=_WINDOWS)
BATCH_WAIT_S = Histogram(
    "sayso_batch_wait_seconds",
    "Seconds that the oldest window of a batch waited.",
    _MODEL,
    buckets=_BATCH_S,
)
BATCH_RUN_S = Histogram(
    "sayso_batch_run_seconds", "Seconds that a batch ran.", _MODEL, buckets=_BATCH_S
)

DECISIONS = Counter(
    "sayso_decisions", "Final decisions on claims and searches.", ("kind", "model_id", "outcome")
)
DECISION_REASONS = Counter(
    "sayso_decision_reasons", "Reasons of final decisions, several for some.", ("reason",)
)
LLR = Histogram(
    "sayso_decision_llr",
    "Natural-log likelihood ratio of final decisions on a claim.",
    ("model_id", "outcome"),
    buckets=_LLR,
)
HOUSEHOLDS = Counter(
    "sayso_household_decisions",
    "Final decisions on claims of several speakers, by outcome; also in sayso_decisions.",
    ("outcome",),
)
LOCKS = Counter(
    "sayso_speaker_locks",
    "Speakers locked for a while or disabled by failed verifications, and verifications refused.",
    ("event",),
)
ENROLMENTS = Counter("sayso_enrolments", "Enrolments, by the speaker's state after.", ("state",))
ENROLMENT_REASONS = Counter(
    "sayso_enrolment_reasons", "Reasons why speech was not enrolled.", ("reason",)
)
SPEECH_S = Histogram(
    "sayso_net_speech_seconds",
    "Net speech behind a decision or enrolment.",
    ("kind",),
    buckets=_SPEECH_S,
)

STORE_S = Histogram(
    "sayso_store_seconds", "Seconds of a store operation.", _STORE, buckets=_STORE_S
)
STORE_ERRORS = Counter(
    "sayso_store_errors", "Store operations that raised, by error.", (*_STORE, "error")
)
EXPIRED = Counter("sayso_expired_voices", "Voices erased because nobody used them for too long.")
EXPIRY_REFUSED = Counter(
    "sayso_expiry_refused", "Times that voices were not let expire, by reason.", ("reason",)
)
EVENTS_LOST = Counter("sayso_lost_events", "Events that could not be stored.")
UNREADABLE = Counter(
    "sayso_store_unreadable_records", "Times that a stored record was left out, as it is damaged."
)

READY = Gauge(
    "sayso_ready", "1 while health of every service is SERVING.", multiprocess_mode="livemin"
)
BUILD = Gauge("sayso_build_info", "1; the version.", ("version",), multiprocess_mode="livemax")
MODEL = Gauge(
    "sayso_model_info",
    "1; a loaded model and where it runs.",
    ("model_id", "provider"),
    multiprocess_mode="livemax",
)


def count_refusal(limit: str) -> None:
    """Count a call that a limit refused, or ended to make room for a newer one."""
    REFUSED.labels(limit).inc()


def make_batch_observer(model_id: str) -> Callable[[BatchReport], None]:
    """Make the function to which a model's batcher reports its batches."""
    size = BATCH.labels(model_id)
    wait_s, run_s = BATCH_WAIT_S.labels(model_id), BATCH_RUN_S.labels(model_id)

    def observe(report: BatchReport) -> None:
        size.observe(report.size)
        wait_s.observe(report.waited_s)
        run_s.observe(report.ran_s)

    return observe


def set_queue(model_id: str, windows: int) -> None:
    """Set how many windows wait; call it repeatedly, also while the device hangs."""
    QUEUE.labels(model_id).set(windows)


def count_decision(decision: Decision) -> None:
    """Count a final decision on a claim, also one made without audio. The LLR of one of several
    speakers is of another distribution than drift is measured by, so `LLR` does not get it."""
    _count_decision(decision, "verification")
    if decision.claimed:
        HOUSEHOLDS.labels(decision.outcome.name).inc()
    elif decision.score is not None:
        LLR.labels(decision.model_id, decision.outcome.name).observe(decision.score.llr)


def count_identification(decision: Decision) -> None:
    """Count a final decision of a search. Its LLR is the best of many, so `LLR` does not get it."""
    _count_decision(decision, "identification")


def count_lock(event: str) -> None:
    """Count a speaker `locked` for a while or `disabled`, or a verification `refused` for that."""
    LOCKS.labels(event).inc()


def count_enrollment(speaker: Speaker | None, reasons: Iterable[Reason], quality: Quality) -> None:
    """Count an enrollment under the state of `speaker` after it; None if nothing was stored."""
    ENROLMENTS.labels(speaker.state.name if speaker else "REFUSED").inc()
    for reason in reasons:
        ENROLMENT_REASONS.labels(reason.name).inc()
    _observe_speech(quality, "enrolment")


def count_expired(voices: int) -> None:
    """Count voices erased because they expired."""
    EXPIRED.inc(voices)


def count_expiry_refusal(reason: str) -> None:
    """Count a refusal to erase expired voices that may have expired by mistake."""
    EXPIRY_REFUSED.labels(reason).inc()


def count_lost_events(count: int) -> None:
    """Count events that could not be stored."""
    EVENTS_LOST.inc(count)


def count_unreadable() -> None:
    """Count a stored record that could not be read and was left out."""
    UNREADABLE.inc()


def set_model(contract: Contract, provider: str) -> None:
    """Announce a model that this process serves."""
    BUILD.labels(version("sayso")).set(1)
    MODEL.labels(contract.model_id, provider).set(1)
    # With several workers this opens the file of such gauges now: a later call would fail if a
    # cleaner of temporary files had removed the folder.
    set_queue(contract.model_id, 0)


def set_ready(serving: bool) -> None:
    """Set whether health says SERVING."""
    READY.set(serving)


def _count_decision(decision: Decision, kind: str) -> None:
    DECISIONS.labels(kind, decision.model_id, decision.outcome.name).inc()
    for reason in decision.reasons:
        DECISION_REASONS.labels(reason.name).inc()
    _observe_speech(decision.quality, kind)


def _observe_speech(quality: Quality, kind: str) -> None:
    if quality.total_s > 0:
        SPEECH_S.labels(kind).observe(quality.net_speech_s)
