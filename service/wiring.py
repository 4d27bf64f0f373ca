"""Wiring: build the parts of a server from the sections of settings.

session, voice activity -> embedder -> verifier ─┬─> live verifications -> rpc
store -> enroller, identifier, lockout ──────────┘

Each model has a session, an embedder and a verifier: the current model and, during an upgrade, the
previous one.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec

import grpc
from sayso.v1 import (
    call_pb2_grpc,
    event_pb2_grpc,
    group_pb2_grpc,
    server_pb2_grpc,
    speaker_pb2_grpc,
    verification_pb2_grpc,
)

from service.access import current
from service.access.limits import ComparisonBudgets, TenantLimits
from service.audio.speech import VoiceActivity
from service.audit import Auditor, Trail
from service.calls.identification import Identifier
from service.calls.live import LiveVerifications
from service.calls.migration import MigratingModels
from service.calls.models import LoadedModel, LoadedModels
from service.calls.verification import Verifier
from service.contract import Contract
from service.decisions.named_policies import NamedPolicies
from service.decisions.policy import (
    PolicyDefaults,
    QualityGate,
    SequentialTest,
    ThresholdSource,
    make_server_policy,
)
from service.decisions.thresholds import choose_threshold
from service.errors import InvalidArgument, ModelError, SettingsError
from service.events import EventLog
from service.inference import processors
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.observability import metrics
from service.observability.metrics.store import time_operations
from service.rpc.calls import CallRpc
from service.rpc.events import EventRpc, encode_event
from service.rpc.groups import GroupRpc
from service.rpc.requests import AudioLimits
from service.rpc.server import ServerRpc
from service.rpc.speakers import SpeakerRpc
from service.rpc.verification import VerificationRpc
from service.sealing import Kms, Sealing, choose_kms
from service.settings import Settings
from service.speakers.adaptation import (
    CallLearner,
    Learning,
    adapt_with,
    migrate_with,
)
from service.speakers.enrollment import Enroller
from service.speakers.expiry import Expiry
from service.speakers.lifecycle import Retention
from service.speakers.lockout import Lockout
from service.speakers.verification_attempts import VerificationAttempts
from service.store import Store, open_store

log = logging.getLogger(__name__)


def make_kms(settings: Settings) -> Kms | None:
    """Return the KMS of the master key, or None without one; raises `SettingsError`."""
    return choose_kms(settings.master_key)


def make_store(settings: Settings) -> Store:
    """Make the store, sealed if there is a master key, with metrics; the caller enters it."""
    sealing = None
    if (kms := make_kms(settings)) is not None:
        sealing = Sealing(kms, settings.sealing)
    store = open_store(settings.store, sealing=sealing)
    store.records.observe_unreadable = metrics.count_unreadable
    return time_operations(store)


def make_trail(settings: Settings) -> Trail | None:
    """Make the audit trail, or None without a folder for it; the caller enters it."""
    folder = settings.trail.folder
    return None if folder is None else Trail(folder, settings.trail)


def list_readiness_checks(
    settings: Settings, trail: Trail | None
) -> list[Callable[[], Awaitable[None]]]:
    """List the checks, besides that of the store, that must succeed for the server to be ready."""
    return [trail.ping] if trail is not None and settings.trail.strict else []


def make_limits(settings: Settings, *, one_tenant: bool) -> TenantLimits:
    """Make the limits of tenants; unless there is only `one_tenant`, a fifth of the calls is
    reserved for tenants with few calls."""
    return TenantLimits(
        settings.tenant_quota,
        calls=settings.max_streams,
        reserve=0 if one_tenant else settings.max_streams // 5,
        count_refusal=metrics.count_refusal,
    )


def open_sessions(settings: Settings) -> list[Session]:
    """Open the current model and, during an upgrade, the previous one; raises `StartupError`."""
    sessions = [
        Session.open(
            path,
            device=settings.device,
            threads=1,
            max_batch=settings.max_batch,
            cuda_graphs=settings.cuda_graphs,
        )
        for path in (settings.model, settings.previous_model)
        if path is not None
    ]
    if len({session.contract.model_id for session in sessions}) < len(sessions):
        raise SettingsError(
            "SAYSO_PREVIOUS_MODEL: is the same model as SAYSO_MODEL; unset it, or name the one "
            "that the enrolled voices were made with"
        )
    for session in sessions:
        _check_thresholds(settings, session.contract)
    return sessions


def are_calibrated(sessions: Sequence[Session]) -> bool:
    """Say whether every model is calibrated, so that calls can be verified."""
    return all(session.contract.calibration is not None for session in sessions)


def _check_thresholds(settings: Settings, contract: Contract) -> None:
    """Raise `StartupError` if every verification would fail with this model and these settings."""
    if contract.calibration is None:
        if not settings.allow_uncalibrated:
            raise ModelError(
                f"the model {contract.model_id} has no calibration, so that no call could be "
                "verified: calibrate it (`sayso-export calibrate`), or give --allow-uncalibrated "
                "to enroll and embed alone"
            )
        log.warning("the model %s has no calibration: no call is verified", contract.model_id)
        return
    try:
        choose_threshold(make_server_policy(contract, settings.decisions), contract.calibration)
    except InvalidArgument as error:
        if settings.decisions.target_false_match_rate is not None:
            raise SettingsError(f"SAYSO_TARGET_FALSE_MATCH_RATE: {error.message}") from error
        raise ModelError(f"the model {contract.model_id}: {error.message}") from error


def make_embedder(settings: Settings, session: Session) -> Embedder:
    metrics.set_model(session.contract, session.provider)
    return Embedder(
        session,
        VoiceActivity.open(),
        max_batch=session.max_batch,
        queue_limit=settings.max_queue,
        max_delay_s=settings.max_batch_delay_s,
        workers=_count_workers(settings, session),
        speech_threads=settings.speech_threads,
        observe=metrics.make_batch_observer(session.contract.model_id),
        owner=lambda: current().tenant,
    )


def _count_workers(settings: Settings, session: Session) -> int:
    """Return 1 on a GPU, else the number of threads: on a CPU each thread runs a batch of its own,
    which costs less than sharing one."""
    return settings.threads or processors.count_available() if session.on_cpu else 1


def make_enroller(
    settings: Settings, store: Store, contract: Contract, previous: Contract | None = None
) -> Enroller:
    floor_s = max(model.min_speech_s for model in (contract, previous) if model is not None)
    return Enroller(
        store,
        contract=contract,
        gate=replace(QualityGate.from_rules(settings.decisions), min_speech_s=floor_s),
        min_speech_s=settings.min_enroll_speech_s,
        max_vectors=settings.max_vectors,
        rules=settings.enrollment,
        retention=make_retention(settings),
        previous=previous,
    )


def make_identifier(
    settings: Settings,
    store: Store,
    contract: Contract,
    enroller: Enroller,
    lockout: Lockout,
    previous: Identifier | None,
) -> Identifier:
    return Identifier(
        store,
        contract,
        policy=make_server_policy(contract, settings.decisions),
        retention=make_retention(settings),
        succession=enroller.voices.succession,
        previous=previous,
        is_locked=lockout.is_locked,
    )


def make_lockout(settings: Settings, store: Store) -> Lockout:
    return Lockout(store, settings.lockout)


def make_event_log(settings: Settings, store: Store) -> EventLog:
    return EventLog(
        store.events, settings.events, encode_event, count_lost=metrics.count_lost_events
    )


def make_attempts(lockout: Lockout, auditor: Auditor, events: EventLog) -> VerificationAttempts:
    return VerificationAttempts(
        lockout, auditor, observe=metrics.count_lock, publish=events.publish
    )


def make_models(
    settings: Settings, embedders: Sequence[Embedder], enroller: Enroller
) -> LoadedModels:
    """Make the models that calls are verified with: two of them during an upgrade."""
    retention = make_retention(settings)
    current, *previous = (_make_model(settings, embedder, retention) for embedder in embedders)
    if not previous:
        return LoadedModels(current)
    return MigratingModels(current, previous[0], enroller.voices.succession)


def _make_model(settings: Settings, embedder: Embedder, retention: Retention) -> LoadedModel:
    contract = embedder.contract
    policy = make_server_policy(contract, settings.decisions)
    sequential = SequentialTest(**asdict(settings.sequential))
    return LoadedModel(
        embedder,
        Verifier(contract, retention, policy),
        PolicyDefaults(policy, sequential, contract.min_speech_s),
    )


def make_learner(
    settings: Settings,
    store: Store,
    enroller: Enroller,
    auditor: Auditor,
    embedders: Sequence[Embedder],
) -> CallLearner:
    """Make the learner from accepted calls, which changes voices only if they are adapted or
    migrated to a new model."""
    current, *earlier = (embedder.contract.model_id for embedder in embedders)
    by_model: dict[str, Learning] = {}
    if settings.adaptation.enabled:
        by_model[current] = adapt_with(enroller, settings.adaptation)
    for previous in earlier:
        by_model[previous] = migrate_with(enroller, settings.migration)
    return CallLearner(store, enroller, auditor, make_retention(settings), by_model)


def add_services(
    server: grpc.aio.Server,
    settings: Settings,
    embedders: Sequence[Embedder],
    store: Store,
    enroller: Enroller,
    identifier: Identifier,
    auditor: Auditor,
    allowed: TenantLimits,
    lockout: Lockout,
    attempts: VerificationAttempts,
    events: EventLog,
) -> None:
    """Build the rpc services and add them to `server`."""
    models = make_models(settings, embedders, enroller)
    budgets = ComparisonBudgets(settings.comparisons, count_refusal=metrics.count_refusal)
    live = LiveVerifications(
        store=store,
        models=models,
        attempts=attempts,
        identifier=identifier,
        learner=make_learner(settings, store, enroller, auditor, embedders),
        budgets=budgets,
        auditor=auditor,
        publish=events.publish,
    )
    policies = NamedPolicies.read(settings.policies)
    for embedder in embedders:
        _check_policies(policies, models.select(embedder.contract.model_id))
    limits = AudioLimits(
        **asdict(settings.audio),
        charge=lambda audio_s: allowed.charge_audio(current().tenant, audio_s),
    )
    verification = VerificationRpc(
        live=live,
        models=models,
        store=store,
        enroller=enroller,
        identifier=identifier,
        auditor=auditor,
        allowed=allowed,
        budgets=budgets,
        batch_items=settings.batch_items,
        policies=policies,
        limits=limits,
        publish=events.publish,
    )
    speakers = SpeakerRpc(
        store=store,
        enroller=enroller,
        retention=make_retention(settings),
        lockout=lockout,
        auditor=auditor,
        allowed=allowed,
    )
    groups = GroupRpc(store=store, auditor=auditor)
    calls = CallRpc(store=store, policies=policies)
    information = ServerRpc(
        [embedder.contract for embedder in embedders],
        limits,
        min_enroll_speech_s=settings.min_enroll_speech_s,
        features=_list_features(settings),
        policies=policies,
    )
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(verification, server)
    speaker_pb2_grpc.add_SpeakerServiceServicer_to_server(speakers, server)
    group_pb2_grpc.add_GroupServiceServicer_to_server(groups, server)
    call_pb2_grpc.add_CallServiceServicer_to_server(calls, server)
    event_pb2_grpc.add_EventServiceServicer_to_server(EventRpc(events), server)
    server_pb2_grpc.add_ServerServiceServicer_to_server(information, server)


def _check_policies(policies: NamedPolicies, model: LoadedModel) -> None:
    """Raise `SettingsError` for a named policy that the model cannot follow, or that is looser than
    the server's own."""
    calibration = model.embedder.contract.calibration
    if calibration is None:
        return
    for policy in policies:
        try:
            rules = policy.rules.fill_in(model.defaults, source=ThresholdSource.POLICY)
            threshold = choose_threshold(rules, calibration)
        except InvalidArgument as error:
            raise SettingsError(f"SAYSO_POLICIES: {policy.name}: {error.message}") from error
        if threshold.source is ThresholdSource.SERVER_MINIMUM:
            raise SettingsError(
                f"SAYSO_POLICIES: {policy.name}: asks for less than the server's own threshold, "
                f"{threshold.description.partition(';')[0]}; make the policy stricter, or loosen "
                "SAYSO_TARGET_FALSE_MATCH_RATE"
            )


def _list_features(settings: Settings) -> list[str]:
    """List what is switched on and changes what a client sees; names never change."""
    switches = {
        "adaptation": settings.adaptation.enabled,
        "audit": settings.trail.folder is not None,
        "confirmation": settings.enrollment.confirm,
        "consent": settings.enrollment.consent_required,
        "events": settings.events.most > 0,
        "encryption": settings.master_key.is_set,
        "expiry": settings.retention.expire_after_days > 0,
        "g722": find_spec("G722") is not None,
        "lockout": settings.lockout.failures > 0,
    }
    return [name for name, on in switches.items() if on]


def make_retention(settings: Settings) -> Retention:
    return Retention(
        settings.retention.expire_after_s,
        consent_required=settings.enrollment.consent_required,
    )


def make_expiry(settings: Settings, store: Store, auditor: Auditor, events: EventLog) -> Expiry:
    return Expiry(
        store,
        make_retention(settings),
        auditor,
        max_share=settings.retention.max_share,
        publish=events.publish,
    )
