"""SIP over UDP, TCP and TLS, from the networks that are allowed."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterable
from typing import cast

from gateway import metrics
from gateway.connectors.audiosocket import Network
from gateway.connectors.siprec.messages import read_message
from gateway.connectors.siprec.recorder import Recorder
from gateway.errors import GatewayError

log = logging.getLogger(__name__)

_MAX_UNSENT_BYTES = 256 * 1024
_MAX_WARNED = 1000
_FLUSH_S = 1.0


class Gate:
    """Who may connect; each address that may not is logged once."""

    def __init__(self, allowed: Iterable[Network]) -> None:
        self._allowed = tuple(allowed)
        self._warned: set[str] = set()

    def admits(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in self._allowed):
            return True
        metrics.REFUSED_CALLS.labels("siprec", "network").inc()
        if host not in self._warned and len(self._warned) < _MAX_WARNED:
            self._warned.add(host)
            log.warning("siprec: refused: %s is in no allowed network", host)
        return False


class DatagramPeer:
    scheme = "udp"
    reliable = False

    def __init__(
        self,
        transport: asyncio.DatagramTransport,
        source: tuple[str, int],
        local: tuple[str, int],
    ) -> None:
        self.host, self.port = source
        self.local_host, self.local_port = local
        self._transport = transport

    def send(self, data: bytes, port: int | None = None) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, (self.host, port or self.port))


class StreamPeer:
    reliable = True

    def __init__(self, writer: asyncio.StreamWriter, scheme: str, local_host: str) -> None:
        self.scheme = scheme
        self.host, self.port = writer.get_extra_info("peername")[:2]
        local = writer.get_extra_info("sockname")
        self.local_host, self.local_port = local_host or local[0], local[1]
        self._writer = writer

    def send(self, data: bytes, port: int | None = None) -> None:
        transport = self._writer.transport
        if transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            transport.abort()
        if not transport.is_closing():
            self._writer.write(data)


class Datagrams(asyncio.DatagramProtocol):
    """SIP over UDP; `local_host` is what platforms are told, else what they reach."""

    def __init__(self, recorder: Recorder, gate: Gate, local_host: str) -> None:
        self._recorder = recorder
        self._gate = gate
        self._local_host = local_host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._bound: tuple[str, int] = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        host, port = addr[:2]
        if not self._gate.admits(host) or not data.strip(b"\r\n\0"):
            return
        local = self._local_host or find_local_host(self._bound[0], host)
        try:
            peer = DatagramPeer(self._transport, (host, port), (local, self._bound[1]))
            self._recorder.receive(data, peer)
        except GatewayError as error:
            log.warning("siprec: dropped: %s", error)
        except Exception:
            log.exception("siprec failed")

    def error_received(self, exc: Exception) -> None:
        log.debug("siprec: udp: %s", exc)


def find_local_host(bound: str, peer: str) -> str:
    """The address of this machine that a peer reaches."""
    if not ipaddress.ip_address(bound).is_unspecified:
        return bound
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.connect((peer, 9))  # sends nothing: asks for the route
        return str(asked.getsockname()[0])


class Connections:
    """SIP over TCP and TLS: any number of sessions on a connection."""

    def __init__(
        self,
        recorder: Recorder,
        gate: Gate,
        local_host: str,
        *,
        max_connections: int,
        start_s: float,
        max_idle_s: float,
    ) -> None:
        self._recorder = recorder
        self._gate = gate
        self._local_host = local_host
        self._max_connections = max_connections
        self._start_s = start_s
        self._max_idle_s = max_idle_s
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            if not self._gate.admits(writer.get_extra_info("peername")[0]):
                return
            if len(self._open) > self._max_connections:
                metrics.REFUSED_CALLS.labels("siprec", "full").inc()
                log.warning("siprec: refused: too many connections")
                return
            scheme = "tls" if writer.get_extra_info("sslcontext") else "tcp"
            await self._serve(reader, StreamPeer(writer, scheme, self._local_host), writer)
        except GatewayError as error:
            log.warning("siprec: closed: %s", error)
        except TimeoutError:
            log.warning("siprec: closed: nothing came for too long")
        except OSError as error:
            log.info("siprec: the connection broke: %s", error)
        except Exception:
            log.exception("siprec failed")
        finally:
            del self._open[task]
            writer.close()

    async def close(self) -> None:
        """End the connections that are left, once what was written has left, for a moment."""
        tasks = tuple(self._open)
        for writer in self._open.values():
            writer.close()
        if tasks and (await asyncio.wait(tasks, timeout=_FLUSH_S))[1]:
            for writer in self._open.values():
                writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, peer: StreamPeer, writer: asyncio.StreamWriter
    ) -> None:
        wait_s, pings = self._start_s, 0
        while (data := await read_message(reader, wait_s)) is not None:
            if data:
                self._recorder.receive(data, peer)
                pings = 0
            elif pings := (pings + 1) % 2:
                continue
            else:
                peer.send(b"\r\n")  # answers a keep-alive of two line ends
            wait_s = self._max_idle_s
            await writer.drain()
