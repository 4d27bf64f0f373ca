"""Assembly: settings in, the parts of a server out.

session, voice activity, store -> embedder -> enroller, verifier -> live verifications -> rpc
once for each model: the current and, during an upgrade, the previous one
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

import grpc
from sayso.v1 import speaker_pb2_grpc, verification_pb2_grpc, watchlist_pb2_grpc

from service.access import current
from service.access.limits import ComparisonBudgets, TenantLimits
from service.audio.speech import VoiceActivity
from service.audit import Auditor, Heads, Sync, Trail, key_beside
from service.calls.identification import Identifier
from service.calls.live import LiveVerifications
from service.calls.migration import MigratingModels
from service.calls.models import LoadedModel, LoadedModels
from service.calls.verification import Verifier
from service.contract import Contract
from service.decisions.decision import (
    Policy,
    QualityGate,
    SequentialTest,
    server_policy,
    threshold_for,
)
from service.decisions.requests import PolicyDefaults
from service.errors import InvalidArgument, ModelError, SettingsError
from service.inference import processors
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.observability import metrics
from service.observability.metrics.store import time_operations
from service.rpc.requests import AudioLimits
from service.rpc.speakers import SpeakerRpc
from service.rpc.verification import VerificationRpc
from service.rpc.watchlists import WatchlistRpc
from service.sealing import Kms, Sealing, choose_kms
from service.settings import Settings
from service.speakers.adaptation import (
    CallLearner,
    Learning,
    LearningRule,
    adapt_with,
    migrate_with,
)
from service.speakers.enrollment import Enroller
from service.speakers.expiry import Expiry
from service.speakers.lockout import Lockout, VerificationAttempts
from service.store import Store, open_store
from service.store.lifecycle import Retention

_DAY_S = 86_400.0

log = logging.getLogger(__name__)


def kms(settings: Settings) -> Kms | None:
    """What holds the master key, where there is one; raises `SettingsError`."""
    return choose_kms(settings.master_key)


def store(settings: Settings) -> Store:
    """A store to be entered, sealed if there is a master key, and timed."""
    sealing = None
    if (holder := kms(settings)) is not None:
        sealing = Sealing(holder, settings.protect_templates, settings.sealed_only)
    opened = open_store(settings.store, sealing=sealing)
    opened.records.observe_unreadable = metrics.count_unreadable
    return time_operations(opened)


def trail(settings: Settings) -> Trail | None:
    """To be entered, where one is asked for."""
    options = settings.trail
    if options.folder is None:
        return None
    return Trail(
        options.folder,
        key=options.key or key_beside(options.folder),
        sync=Sync(options.sync),
        max_bytes=options.max_bytes,
        daily=options.daily,
        heads=Heads(options.heads),
        heads_every_s=options.heads_every_s,
    )


def needs(settings: Settings, trail: Trail | None) -> list[Callable[[], Awaitable[None]]]:
    """What the server is not ready without, beside the store."""
    return [trail.ping] if trail is not None and settings.trail.strict else []


def limits(settings: Settings, *, one_tenant: bool) -> TenantLimits:
    """A fifth of the calls is kept for tenants that have few, unless there is only `one_tenant`."""
    return TenantLimits(
        settings.tenant_quota,
        calls=settings.max_streams,
        reserve=0 if one_tenant else settings.max_streams // 5,
        count_refusal=metrics.count_refusal,
    )


def sessions(settings: Settings) -> list[Session]:
    """Of the current model and, during an upgrade, the previous one."""
    opened = [
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
    if len({each.contract.model_id for each in opened}) < len(opened):
        raise SettingsError(
            "SAYSO_PREVIOUS_MODEL: is the same model as SAYSO_MODEL; unset it, or name the one "
            "that the enrolled voices were made with"
        )
    for each in opened:
        _check_thresholds(settings, each.contract)
    return opened


def calibrated(sessions: Sequence[Session]) -> bool:
    """Whether calls can be verified."""
    return all(each.contract.calibration is not None for each in sessions)


def _check_thresholds(settings: Settings, contract: Contract) -> None:
    """Raises `StartupError` for a model, or a setting, that every verification would fail for."""
    if contract.calibration is None:
        if not settings.allow_uncalibrated:
            raise ModelError(
                f"the model {contract.model_id} has no calibration, so that no call could be "
                "verified: calibrate it (`sayso-export calibrate`), or give --allow-uncalibrated "
                "to enrol and embed alone"
            )
        log.warning("the model %s has no calibration: no call is verified", contract.model_id)
        return
    try:
        threshold_for(_policy(settings, contract), contract.calibration)
    except InvalidArgument as error:
        if settings.target_false_match_rate is not None:
            raise SettingsError(f"SAYSO_TARGET_FALSE_MATCH_RATE: {error.message}") from error
        raise ModelError(f"the model {contract.model_id}: {error.message}") from error


def embedder(settings: Settings, session: Session) -> Embedder:
    metrics.set_model(session.contract, session.provider)
    return Embedder(
        session,
        VoiceActivity.open(),
        max_batch=session.max_batch,
        queue_limit=settings.max_queue,
        max_delay_s=settings.max_batch_delay_s,
        workers=_workers(settings, session),
        speech_threads=settings.speech_threads,
        observe=metrics.make_batch_observer(session.contract.model_id),
        owner=lambda: current().tenant,
    )


def _workers(settings: Settings, session: Session) -> int:
    """One for a GPU; of the CPU's threads each has a batch of its own, which costs less than to
    share one."""
    return settings.threads or processors.available() if session.on_cpu else 1


def enroller(
    settings: Settings, store: Store, contract: Contract, previous: Contract | None = None
) -> Enroller:
    floor_s = max(each.min_speech_s for each in (contract, previous) if each is not None)
    return Enroller(
        store,
        contract=contract,
        gate=QualityGate(floor_s, settings.min_snr_db, settings.max_clipping),
        min_speech_s=settings.min_enroll_speech_s,
        max_vectors=settings.max_vectors,
        rules=settings.enrollment,
        retention=retention(settings),
        previous=previous,
    )


def identifier(
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
        policy=_policy(settings, contract),
        retention=retention(settings),
        succession=enroller.succession,
        previous=previous,
        is_locked=lockout.is_locked,
    )


def lockout(settings: Settings, store: Store) -> Lockout:
    return Lockout(store, settings.lockout)


def attempts(lockout: Lockout, auditor: Auditor) -> VerificationAttempts:
    return VerificationAttempts(lockout, auditor, observe=metrics.count_lock)


def models(settings: Settings, embedders: Sequence[Embedder], enroller: Enroller) -> LoadedModels:
    """Of the current model's embedder and, during an upgrade, the previous one's."""
    kept = retention(settings)
    current, *earlier = (_loaded_model(settings, each, kept) for each in embedders)
    if not earlier:
        return LoadedModels(current)
    return MigratingModels(current, earlier[0], enroller.succession)


def _loaded_model(settings: Settings, embedder: Embedder, kept: Retention) -> LoadedModel:
    contract = embedder.contract
    policy = _policy(settings, contract)
    sequential = SequentialTest(**asdict(settings.sequential))
    return LoadedModel(
        embedder,
        Verifier(contract, kept, policy),
        PolicyDefaults(policy, sequential, contract.min_speech_s),
    )


def learner(
    settings: Settings,
    store: Store,
    enroller: Enroller,
    auditor: Auditor,
    embedders: Sequence[Embedder],
) -> CallLearner:
    """What accepted calls change: nothing, unless voices are adapted or a model is migrated to."""
    current, *earlier = (each.contract.model_id for each in embedders)
    by_model: dict[str, Learning] = {}
    if settings.adapt:
        rule = LearningRule(settings.adapt_margin_llr, settings.adapt_min_speech_s)
        by_model[current] = adapt_with(enroller, rule)
    for previous in earlier:
        rule = LearningRule(
            settings.move_margin_llr,
            settings.move_min_speech_s,
            settings.enrollment.consent_required,
        )
        by_model[previous] = migrate_with(enroller, rule)
    return CallLearner(store, enroller, auditor, retention(settings), by_model)


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
) -> None:
    loaded = models(settings, embedders, enroller)
    budgets = ComparisonBudgets(settings.comparisons, count_refusal=metrics.count_refusal)
    live = LiveVerifications(
        store=store,
        models=loaded,
        attempts=attempts,
        identifier=identifier,
        learner=learner(settings, store, enroller, auditor, embedders),
        budgets=budgets,
        auditor=auditor,
    )
    voices = VerificationRpc(
        live=live,
        models=loaded,
        store=store,
        enroller=enroller,
        identifier=identifier,
        auditor=auditor,
        allowed=allowed,
        budgets=budgets,
        batch_items=settings.batch_items,
        limits=AudioLimits(
            **asdict(settings.audio),
            charge=lambda audio_s: allowed.audio(current().tenant, audio_s),
        ),
    )
    speakers = SpeakerRpc(
        store=store,
        enroller=enroller,
        retention=retention(settings),
        lockout=lockout,
        auditor=auditor,
        allowed=allowed,
    )
    groups = WatchlistRpc(store=store, auditor=auditor)
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(voices, server)
    speaker_pb2_grpc.add_SpeakerServiceServicer_to_server(speakers, server)
    watchlist_pb2_grpc.add_WatchlistServiceServicer_to_server(groups, server)


def _policy(settings: Settings, contract: Contract) -> Policy:
    """The server's own, which is also what a request's policy leaves out."""
    gate = QualityGate(settings.min_verify_speech_s, settings.min_snr_db, settings.max_clipping)
    return server_policy(contract, gate=gate, target=settings.target_false_match_rate)


def retention(settings: Settings) -> Retention:
    return Retention(
        settings.expire_after_days * _DAY_S or math.inf,
        consent_required=settings.enrollment.consent_required,
    )


def expiry(settings: Settings, store: Store, auditor: Auditor) -> Expiry:
    return Expiry(store, retention(settings), auditor, max_share=settings.expire_max_share)
