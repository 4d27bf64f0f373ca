"""Composition root: settings in, a running gRPC server out, drained on the way down.

settings -> session, voice activity, store -> embedder -> enroller, verifier -> rpc -> grpc
            once for each model: the current and, during an upgrade, the previous one
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sayso.v1 import (
    speaker_pb2,
    speaker_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
    watchlist_pb2,
    watchlist_pb2_grpc,
)

from service.contract import Contract
from service.decision import Demands, Policy, SequentialTest
from service.embedder import Embedder
from service.enrolment import Duplicates, Enroller, Rules
from service.errors import SaysoError, SettingsError, Unavailable
from service.identification import Identifier
from service.interceptors import Around, errors_to_status, logged
from service.rpc import messages
from service.rpc.requests import TENANT, AudioLimits
from service.rpc.speakers import SpeakerRpc
from service.rpc.verification import VerificationRpc
from service.rpc.watchlists import WatchlistRpc
from service.session import Session
from service.settings import DEFAULT_FALSE_MATCH_RATE, Settings
from service.speech import VoiceActivity
from service.store import Store, open_store
from service.store.lifecycle import Retention, erase_expired
from service.upgrade import Mover, MoveRules, Space, Spaces
from service.verification import Verifier

log = logging.getLogger(__name__)

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (verification_pb2, "VerificationService"),
        (speaker_pb2, "SpeakerService"),
        (watchlist_pb2, "WatchlistService"),
    )
)
_MESSAGE_SLACK = 2
_STORE_PING_S = 1.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts calls on `address` (host:port)."""

    address: str
    session: Session


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Running]:
    """Starts the server; on exit it turns unhealthy first, then finishes the calls in flight.

    Raises a `StartupError` that tells the operator what to correct.
    """
    async with AsyncExitStack() as stack:
        sessions = await asyncio.to_thread(_sessions, settings)
        store = await stack.enter_async_context(open_store(settings.store))
        embedders = [
            await stack.enter_async_context(_embedder(settings, each)) for each in sessions
        ]
        server = _grpc_server(settings)
        enroller = _enroller(settings, store, *(each.contract for each in sessions))
        identifier = None
        for each in reversed(sessions):
            searching = _identifier(settings, store, each.contract, enroller, identifier)
            identifier = await stack.enter_async_context(searching)
        assert identifier is not None, "there is a current model"
        _add_services(server, settings, embedders, store, enroller, identifier)
        statuses = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )
        address = _bind(server, settings.listen)
        reachable = await _check_store(store, statuses, None)
        await server.start()
        stack.push_async_callback(_drain, server, statuses, settings.drain_s)
        watch = asyncio.create_task(_watch_store(store, statuses, reachable))
        stack.callback(watch.cancel)
        sweep = asyncio.create_task(_erase_expired(store, _retention(settings)))
        stack.callback(sweep.cancel)
        yield Running(address, sessions[0])


def _sessions(settings: Settings) -> list[Session]:
    """Of the current model and, during an upgrade, the previous one."""
    sessions = [
        Session.open(
            path, device=settings.device, threads=settings.threads, max_batch=settings.max_batch
        )
        for path in (settings.model, settings.previous_model)
        if path is not None
    ]
    if len({each.contract.model_id for each in sessions}) < len(sessions):
        raise SettingsError(
            "SAYSO_PREVIOUS_MODEL: is the same model as SAYSO_MODEL; unset it, or name the one "
            "that the enrolled voices were made with"
        )
    return sessions


def _embedder(settings: Settings, session: Session) -> Embedder:
    return Embedder(
        session,
        VoiceActivity.open(),
        max_batch=settings.max_batch,
        queue_limit=settings.max_queue,
        max_delay_s=settings.max_batch_delay_s,
        speech_threads=settings.speech_threads,
    )


def _enroller(
    settings: Settings, store: Store, contract: Contract, previous: Contract | None = None
) -> Enroller:
    floor_s = max(each.min_speech_s for each in (contract, previous) if each is not None)
    return Enroller(
        store,
        contract=contract,
        demands=Demands(floor_s, settings.min_snr_db, settings.max_clipping),
        min_speech_s=settings.min_enroll_speech_s,
        max_vectors=settings.max_vectors,
        rules=_rules(settings),
        retention=_retention(settings),
        previous=previous,
    )


def _identifier(
    settings: Settings,
    store: Store,
    contract: Contract,
    enroller: Enroller,
    beside: Identifier | None,
) -> Identifier:
    return Identifier(
        store,
        contract,
        policy=_policy(settings, contract),
        retention=_retention(settings),
        succession=enroller.succession,
        beside=beside,
    )


def _grpc_server(settings: Settings) -> grpc.aio.Server:
    return grpc.aio.server(
        interceptors=(Around(logged), Around(errors_to_status)),
        options=(
            ("grpc.max_receive_message_length", _MESSAGE_SLACK * settings.max_audio_bytes),
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=settings.max_streams,
    )


def _add_services(
    server: grpc.aio.Server,
    settings: Settings,
    embedders: Sequence[Embedder],
    store: Store,
    enroller: Enroller,
    identifier: Identifier,
) -> None:
    retention = _retention(settings)
    contracts = [each.contract for each in embedders]
    current, *previous = (Space(each, Verifier(each.contract, retention)) for each in embedders)
    spaces = Spaces(current, enroller.succession, previous[0] if previous else None)
    voices = VerificationRpc(
        spaces=spaces,
        store=store,
        enroller=enroller,
        mover=Mover(store, enroller, spaces, rules=_move_rules(settings), retention=retention),
        identifier=identifier,
        clock=time.time,
        batch_items=settings.batch_items,
        limits=AudioLimits(
            contracts[0].sample_rate,
            settings.max_audio_s,
            settings.max_audio_bytes,
            settings.max_call_s,
        ),
        defaults={
            each.model_id: messages.Defaults(
                _policy(settings, each), _sequential(settings), each.min_speech_s
            )
            for each in contracts
        },
    )
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(voices, server)
    speakers = SpeakerRpc(store=store, enroller=enroller, retention=retention)
    speaker_pb2_grpc.add_SpeakerServiceServicer_to_server(speakers, server)
    watchlist_pb2_grpc.add_WatchlistServiceServicer_to_server(WatchlistRpc(store=store), server)


def _policy(settings: Settings, contract: Contract) -> Policy:
    """What a request's policy leaves out: the operator's choice over the model's."""
    demands = Demands(settings.min_verify_speech_s, settings.min_snr_db, settings.max_clipping)
    if settings.target_false_match_rate is not None:
        return Policy(settings.target_false_match_rate, "setting", demands)
    if contract.operating_point is not None:
        return Policy(contract.operating_point.target_false_match_rate, "model", demands)
    return Policy(DEFAULT_FALSE_MATCH_RATE, "default", demands)


def _retention(settings: Settings) -> Retention:
    return Retention(settings.expire_after_days * _DAY_S or math.inf)


def _rules(settings: Settings) -> Rules:
    return Rules(
        consent_required=settings.require_consent,
        confirm=settings.confirm_enrollments,
        match_llr=settings.enroll_match_llr,
        coherence_llr=settings.enroll_coherence_llr,
        duplicates=Duplicates(settings.duplicates),
        duplicate_alarm_rate=settings.duplicate_alarm_rate,
        duplicate_limit=settings.duplicate_limit,
        adapt=settings.adapt,
        adapt_margin_llr=settings.adapt_margin_llr,
        adapt_speech_s=settings.adapt_min_speech_s,
    )


def _move_rules(settings: Settings) -> MoveRules:
    return MoveRules(settings.move_margin_llr, settings.move_min_speech_s, settings.require_consent)


def _sequential(settings: Settings) -> SequentialTest:
    return SequentialTest(
        settings.sequential_false_match_rate,
        settings.sequential_false_non_match_rate,
        settings.sequential_max_speech_s,
    )


def _bind(server: grpc.aio.Server, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"SAYSO_LISTEN: {listen!r} is not host:port, e.g. 127.0.0.1:50051")
    try:
        bound = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise SettingsError(
            f"SAYSO_LISTEN: cannot listen on {listen}; is another server running there?"
        ) from error
    return f"{host}:{bound}"


async def _watch_store(store: Store, statuses: health.aio.HealthServicer, known: bool) -> None:
    """Health follows the store: a server that cannot reach it takes no calls."""
    while True:
        await asyncio.sleep(_STORE_PING_S)
        known = await _check_store(store, statuses, known)


async def _check_store(
    store: Store, statuses: health.aio.HealthServicer, known: bool | None
) -> bool:
    """Whether the store answers; tells health and the log when that is not what was known."""
    try:
        await store.ping()
        reachable = True
    except Unavailable as error:
        reachable = False
        if known is not False:
            log.warning("not ready: %s", error)
    if reachable is not known:
        await _set_health(statuses, serving=reachable)
    return reachable


async def _erase_expired(store: Store, retention: Retention) -> None:
    """Once a day; what it cannot reach waits for the next."""
    while math.isfinite(retention.expire_after_s):
        try:
            if erased := await erase_expired(store, TENANT, retention):
                log.info("erased %d expired voices", erased)
        except SaysoError as error:
            log.warning("expired voices were not erased: %s", error)
        await asyncio.sleep(_DAY_S)


async def _set_health(statuses: health.aio.HealthServicer, *, serving: bool) -> None:
    states = health_pb2.HealthCheckResponse
    status = states.SERVING if serving else states.NOT_SERVING
    for name in (health.OVERALL_HEALTH, *SERVICES):
        await statuses.set(name, status)


async def _drain(
    server: grpc.aio.Server, statuses: health.aio.HealthServicer, grace_s: float
) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await statuses.enter_graceful_shutdown()
    await server.stop(grace_s)
