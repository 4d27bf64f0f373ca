"""Composition root: settings in, a running gRPC server out, drained on the way down.

wiring.py    what the rpcs work with      listener.py    where and to whom they are served
readiness.py   health, which follows the store
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from grpc_health.v1 import health, health_pb2_grpc
from sayso.v1 import speaker_pb2, verification_pb2, watchlist_pb2

from service import listener, wiring
from service.access import current, identify_caller
from service.audit import Auditor, Origin
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.observability import metrics
from service.observability.logs import log_calls, request_id
from service.observability.metrics.calls import count_calls
from service.observability.tracing import tracing
from service.rpc.interceptors import GuardInterceptor, enforce_limits
from service.rpc.readiness import Readiness
from service.rpc.reflection import add_reflection
from service.rpc.unauthenticated import UnauthenticatedMethods
from service.settings import Settings

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (verification_pb2, "VerificationService"),
        (speaker_pb2, "SpeakerService"),
        (watchlist_pb2, "WatchlistService"),
    )
)


VERIFICATION = SERVICES[0]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts calls on `address` (host:port)."""

    address: str
    session: Session


@asynccontextmanager
async def serving(settings: Settings, *, share_port: bool = False) -> AsyncIterator[Running]:
    """Starts the server; on exit it turns unhealthy first, then finishes the calls in flight.

    With `share_port` other processes of this user may serve on the same address.

    Raises a `StartupError` that tells the operator what to correct.
    """
    async with AsyncExitStack() as stack:
        authenticator = listener.open_configured_authenticator(settings)
        allowed = wiring.make_limits(settings, one_tenant=authenticator is None)
        guards = GuardInterceptor(
            watching=(count_calls, log_calls),
            admitting=(identify_caller(authenticator), enforce_limits(allowed)),
        )
        strangers = UnauthenticatedMethods(count_refusal=metrics.count_refusal)
        traced = (stack.enter_context(tracing()),) if settings.tracing else ()
        server = listener.grpc_server(
            settings, guards, outer=(strangers, *traced), share_port=share_port
        )
        services = listener.add_by_name(server)
        sessions = await asyncio.to_thread(wiring.open_sessions, settings)
        store = await stack.enter_async_context(wiring.make_store(settings))
        if (trail := wiring.make_trail(settings)) is not None:
            await stack.enter_async_context(trail)
        auditor = Auditor(trail, origin=_origin, strict=settings.trail.strict)
        embedders = [
            await stack.enter_async_context(wiring.make_embedder(settings, each))
            for each in sessions
        ]
        enroller = wiring.make_enroller(settings, store, *(each.contract for each in sessions))
        lockout = wiring.make_lockout(settings, store)
        attempts = wiring.make_attempts(lockout, auditor)
        identifier = None
        for each in reversed(sessions):
            searching = wiring.make_identifier(
                settings, store, each.contract, enroller, lockout, identifier
            )
            identifier = await stack.enter_async_context(searching)
        assert identifier is not None, "there is a current model"
        wiring.add_services(
            services,
            settings,
            embedders,
            store,
            enroller,
            identifier,
            auditor,
            allowed,
            lockout,
            attempts,
        )
        readiness = Readiness(
            store,
            SERVICES,
            wiring.list_readiness_checks(settings, trail),
            () if wiring.are_calibrated(sessions) else (VERIFICATION,),
        )
        health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, services)
        if settings.reflection:
            add_reflection(services, (*SERVICES, health.SERVICE_NAME))
        address = listener.bind_port(server, settings, open_to_all=authenticator is None)
        await readiness.check()
        await server.start()
        stack.push_async_callback(attempts.wait_until_concluded)
        stack.push_async_callback(readiness.drain, server, settings.drain_s)
        stack.callback(attempts.drain)
        watch = asyncio.create_task(readiness.watch(lambda: _glance(embedders)))
        stack.callback(watch.cancel)
        expiry = asyncio.create_task(wiring.make_expiry(settings, store, auditor).run())
        stack.callback(expiry.cancel)
        yield Running(address, sessions[0])


def _origin() -> Origin:
    caller = current()
    return Origin(caller.tenant, caller.credential, request_id())


def _glance(embedders: list[Embedder]) -> None:
    for each in embedders:
        metrics.set_queue(each.contract.model_id, each.queue_depth)
