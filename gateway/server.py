"""A running gateway: its listeners, drained on the way down.

SIGTERM ─> no new calls ─> calls in progress end, or `drain_s` passes ─> listeners close
"""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
from sayso import SettingsError

from gateway import web
from gateway.calls import Calls
from gateway.clients import Clients
from gateway.connectors.audiosocket import AudioSockets, Network, parse_networks
from gateway.connectors.media_forking import listener as media_forks
from gateway.connectors.media_forking.five9 import Five9
from gateway.connectors.media_forking.rpcs import Verify
from gateway.connectors.media_forking.webex import Webex
from gateway.connectors.media_forking.webex_tokens import KeyRing, WebexTokens, fetch_keys
from gateway.connectors.siprec.messages import MAX_HEAD_BYTES
from gateway.connectors.siprec.recorder import Recorder
from gateway.connectors.siprec.sessions import RecordingLimits
from gateway.connectors.siprec.transports import Connections, Datagrams, Gate
from gateway.metrics import serve_metrics
from gateway.rest import open_rest
from gateway.routes import read_tokens
from gateway.settings import PREFIX, Settings, parse_address
from gateway.webhooks.running import open_webhooks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that takes calls: host:port of the WebSockets and, if they are on, of AudioSocket,
    of SIPREC over UDP and TCP, of SIPREC over TLS, of the metrics, and of media forks over gRPC."""

    address: str
    audiosocket: str | None
    siprec: str | None
    siprec_tls: str | None
    calls: Calls
    metrics: str | None = None
    forks: str | None = None


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[RunningGateway]:
    """Start a gateway; on leaving, drain it. Raises `SettingsError`."""
    clients = Clients(settings.open_client, settings.credential.get_secret_value())
    calls = Calls(
        clients,
        settings.limits,
        policy=settings.policy,
        require_announced=settings.require_announced,
        remembered=settings.max_calls if settings.voice_id_keys else 0,
    )
    async with contextlib.AsyncExitStack() as stack:
        metrics = stack.enter_context(serve_metrics(settings.metrics_listen))
        await stack.enter_async_context(open_webhooks(settings))
        address = await stack.enter_async_context(open_web(settings, calls, clients))
        audiosocket = await stack.enter_async_context(open_audiosocket(settings, calls))
        siprec, siprec_tls = await stack.enter_async_context(open_siprec(settings, calls))
        forks = await stack.enter_async_context(open_forks(settings, calls))
        try:
            yield RunningGateway(address, audiosocket, siprec, siprec_tls, calls, metrics, forks)
        finally:
            await calls.drain(settings.drain_s)


@contextlib.asynccontextmanager
async def open_web(settings: Settings, calls: Calls, clients: Clients) -> AsyncIterator[str]:
    """Listen for HTTP and WebSockets; yields host:port."""
    async with contextlib.AsyncExitStack() as stack:
        rest = None
        if settings.rest or settings.console:
            rest = await stack.enter_async_context(open_rest(settings))
        server = web.make_server(settings, web.make_app(settings, calls, clients, rest))
        listener = stack.enter_context(listen(settings.listen))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield format_address(listener)
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def open_audiosocket(settings: Settings, calls: Calls) -> AsyncIterator[str | None]:
    """Listen for Asterisk, if that is on; yields host:port."""
    if settings.audiosocket_listen is None:
        yield None
        return
    connector = AudioSockets(
        calls,
        read_networks("AUDIOSOCKET_ALLOW", settings.audiosocket_allow),
        max_connections=2 * settings.max_calls,
        start_s=settings.start_s,
        max_pause_s=settings.max_pause_s,
    )
    listener = listen(settings.audiosocket_listen)
    address = format_address(listener)
    server = await asyncio.start_server(connector.accept, sock=listener)
    try:
        yield address
    finally:
        server.close()
        await connector.close()


@contextlib.asynccontextmanager
async def open_siprec(
    settings: Settings, calls: Calls
) -> AsyncIterator[tuple[str | None, str | None]]:
    """Listen for SIPREC, if that is on; yields host:port of UDP and TCP, and of TLS."""
    if not (settings.siprec_listen or settings.siprec_tls_listen):
        yield None, None
        return
    gate = Gate(read_networks("SIPREC_ALLOW", settings.siprec_allow))
    host, _ = parse_address(settings.siprec_listen or settings.siprec_tls_listen or "")
    recorder = Recorder(
        calls,
        RecordingLimits(
            host=resolve(host),
            ports=settings.read_media_ports(),
            call_id=settings.siprec_call_id,
            label=settings.siprec_label,
            max_pause_s=settings.max_pause_s,
            max_hold_s=settings.max_call_s,
        ),
    )
    connections = Connections(
        recorder,
        gate,
        settings.siprec_address,
        max_connections=2 * settings.max_calls,
        start_s=settings.start_s,
        max_idle_s=settings.max_call_s,
    )
    plain = tls = None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(connections.close)
        if settings.siprec_listen:
            listener = stack.enter_context(listen(settings.siprec_listen))
            plain = format_address(listener)
            server = await asyncio.start_server(
                connections.accept, sock=listener, limit=MAX_HEAD_BYTES
            )
            stack.callback(server.close)
            datagrams = stack.enter_context(bind_datagrams(listener))
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Datagrams(recorder, gate, settings.siprec_address), sock=datagrams
            )
            stack.callback(transport.close)
        if settings.siprec_tls_listen:
            listener = stack.enter_context(listen(settings.siprec_tls_listen))
            tls = format_address(listener)
            server = await asyncio.start_server(
                connections.accept,
                sock=listener,
                ssl=make_siprec_tls(settings),
                limit=MAX_HEAD_BYTES,
            )
            stack.callback(server.close)
        stack.push_async_callback(recorder.close)  # first, as it says goodbye
        yield plain, tls


def bind_datagrams(listener: socket.socket) -> socket.socket:
    """A socket for UDP on the address of one for TCP; raises `SettingsError`."""
    datagrams = socket.socket(listener.family, socket.SOCK_DGRAM)
    try:
        datagrams.bind(listener.getsockname())
    except OSError as error:
        datagrams.close()
        address = format_address(listener)
        raise SettingsError(f"cannot take UDP on {address}: {error.strerror}") from error
    return datagrams


@contextlib.asynccontextmanager
async def open_forks(settings: Settings, calls: Calls) -> AsyncIterator[str | None]:
    """Listen for media forks over gRPC, if that is on; yields host:port."""
    if settings.forks_listen is None:
        yield None
        return
    host, _ = parse_address(settings.forks_listen)
    services: dict[str, Verify] = {}
    if settings.webex_url:
        keys = KeyRing(fetch_keys)
        tokens = WebexTokens(settings.webex_url, settings.read_webex_issuers(), keys)
        services[media_forks.WEBEX] = Webex(calls, tokens).verify
    if settings.five9_tokens is not None:
        services[media_forks.FIVE9] = Five9(
            calls, read_tokens(settings.five9_tokens, least=20)
        ).verify
    async with media_forks.serve(
        settings.forks_listen,
        make_fork_credentials(settings),
        calls,
        services,
        max_streams=2 * settings.max_calls,
        start_s=settings.start_s,
        max_pause_s=settings.max_pause_s,
    ) as port:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def make_fork_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The gateway's certificate for gRPC; None without one. Raises `SettingsError`."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    try:
        pair = settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes()
    except OSError as error:
        raise SettingsError(f"the TLS of media forks cannot be set up: {error}") from error
    return grpc.ssl_server_credentials([pair])


def make_siprec_tls(settings: Settings) -> ssl.SSLContext:
    """Raises `SettingsError` if a file is not what it should be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert settings.tls_certificate is not None
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.siprec_client_ca is not None:
            context.load_verify_locations(settings.siprec_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS of SIPREC cannot be set up: {error}") from error
    return context


def read_networks(setting: str, text: str) -> tuple[Network, ...]:
    """The networks that a setting names; raises `SettingsError`."""
    try:
        return parse_networks(text)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{setting}: {error}") from error


def resolve(host: str) -> str:
    """The address of a host; raises `SettingsError`."""
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror}") from error


def listen(address: str) -> socket.socket:
    """A socket that listens on host:port; raises `SettingsError`."""
    host, port = parse_address(address)
    try:
        family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(found, family=family, backlog=1024)
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror}") from error


def format_address(listener: socket.socket) -> str:
    """host:port that a socket listens on."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(settings: Settings, announce: Callable[[RunningGateway], None]) -> None:
    """Run a gateway until SIGTERM or SIGINT; `announce` it once it takes calls."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_gateway(settings) as running:
        announce(running)
        log.info("started: %s", running.address)
        if running.metrics is not None:
            log.info("metrics: http://%s/metrics", running.metrics)
        await stop.wait()
        log.info("draining %d calls", len(running.calls))
