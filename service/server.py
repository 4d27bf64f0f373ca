"""Composition root: start a gRPC server from settings, and drain it at the end.

wiring      the parts that the rpcs use      listener    the port and its connections
readiness   health, which follows the store
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from grpc_health.v1 import health, health_pb2_grpc
from sayso.v1 import call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2

from service import listener, wiring
from service.access import current, identify_caller
from service.audit import Auditor, Origin
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.observability import metrics
from service.observability.logs import get_request_id, log_calls
from service.observability.metrics.calls import count_calls
from service.observability.tracing import open_tracing
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
        (group_pb2, "GroupService"),
        (call_pb2, "CallService"),
        (event_pb2, "EventService"),
        (server_pb2, "ServerService"),
    )
)


VERIFICATION = SERVICES[0]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts calls on `address` (host:port)."""

    address: str
    session: Session


@asynccontextmanager
async def open_server(
    settings: Settings, *, share_port: bool = False
) -> AsyncIterator[RunningServer]:
    """Start a server. On exit it first reports itself unhealthy, then finishes the calls in flight.

    With `share_port` other processes of this user may listen on the same address.

    Raises a `StartupError` that tells the operator what to correct.
    """
    async with AsyncExitStack() as stack:
        authenticator = listener.open_configured_authenticator(settings)
        if authenticator is not None:
            await stack.enter_async_context(authenticator.keep_last_uses())
        allowed = wiring.make_limits(settings, one_tenant=authenticator is None)
        guards = GuardInterceptor(
            watching=(count_calls, log_calls),
            admitting=(identify_caller(authenticator), enforce_limits(allowed)),
        )
        unauthenticated = UnauthenticatedMethods(count_refusal=metrics.count_refusal)
        traced = (stack.enter_context(open_tracing()),) if settings.tracing else ()
        server = listener.make_grpc_server(
            settings, guards, outer=(unauthenticated, *traced), share_port=share_port
        )
        services = listener.add_generically(server)
        sessions = await asyncio.to_thread(wiring.open_sessions, settings)
        store = await stack.enter_async_context(wiring.make_store(settings))
        if (trail := wiring.make_trail(settings)) is not None:
            await stack.enter_async_context(trail)
        auditor = Auditor(trail, origin=_get_origin, strict=settings.trail.strict)
        embedders = [
            await stack.enter_async_context(wiring.make_embedder(settings, session))
            for session in sessions
        ]
        enroller = wiring.make_enroller(
            settings, store, *(session.contract for session in sessions)
        )
        lockout = wiring.make_lockout(settings, store)
        events = wiring.make_event_log(settings, store)
        attempts = wiring.make_attempts(lockout, auditor, events)
        identifier = None
        for session in reversed(sessions):  # the previous model's first
            identifier = await stack.enter_async_context(
                wiring.make_identifier(
                    settings, store, session.contract, enroller, lockout, identifier
                )
            )
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
            events,
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
        stack.callback(events.stop)
        watch = asyncio.create_task(readiness.watch(lambda: _report_queues(embedders)))
        stack.callback(watch.cancel)
        expiry = asyncio.create_task(wiring.make_expiry(settings, store, auditor, events).run())
        stack.callback(expiry.cancel)
        yield RunningServer(address, sessions[0])


def _get_origin() -> Origin:
    caller = current()
    return Origin(caller.tenant, caller.credential, get_request_id())


def _report_queues(embedders: list[Embedder]) -> None:
    for embedder in embedders:
        metrics.set_queue(embedder.contract.model_id, embedder.queue_depth)
