"""Transactions of the server (RFC 3261, 17.2): a response is sent again until it has arrived, and a
request that comes twice is answered twice and handled once."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from gateway.connectors.siprec.messages import Request, make_response

_T1_S, _T2_S = 0.5, 4.0
_GIVE_UP_S = 64 * _T1_S
_MAX_TRANSACTIONS = 10_000

Header = tuple[str, str]


class Peer(Protocol):
    """Who sent a message, and how it is answered: `host` and `port` are those of the peer,
    `local_host` and `local_port` how it reaches this machine."""

    scheme: str
    reliable: bool
    host: str
    port: int
    local_host: str
    local_port: int

    def send(self, data: bytes, port: int | None = None) -> None:
        """Send a message, over UDP to another port if one is named; must not raise."""
        ...


class Retransmission:
    """Sends a message again, ever more slowly, until it is stopped or `give_up` is called."""

    def __init__(self, send: Callable[[], None], give_up: Callable[[], None]) -> None:
        self._send = send
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + _GIVE_UP_S
        self._wait_s = _T1_S
        self._timer = self._loop.call_later(self._wait_s, self._repeat)

    def stop(self) -> None:
        self._timer.cancel()

    def _repeat(self) -> None:
        if self._loop.time() >= self._ends_at:
            self._give_up()
            return
        self._send()
        self._wait_s = min(2 * self._wait_s, _T2_S)
        self._timer = self._loop.call_later(self._wait_s, self._repeat)


class Transaction:
    """A request and what it is answered; `tag` names this side of the dialog."""

    def __init__(self, request: Request, peer: Peer, return_port: int) -> None:
        self.request = request
        self.peer = peer
        self.tag = secrets.token_hex(8)
        self.status = 0
        self._return_port = return_port
        self._response = b""
        self._retransmission: Retransmission | None = None

    def respond(
        self,
        status: int,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        *,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer, unless that was done. `give_up` is called if a 2xx is never acknowledged."""
        if self.final:
            return
        self.status = status
        self._response = make_response(
            self.request,
            status,
            (self.peer.host, self.peer.port),
            to_tag=self.tag if status > 100 else "",
            headers=headers,
            body=body,
        )
        self.repeat()
        is_2xx = status // 100 == 2
        if self.request.method == "INVITE" and (is_2xx or (self.final and not self.peer.reliable)):
            self._retransmission = Retransmission(self.repeat, give_up)

    @property
    def final(self) -> bool:
        return self.status >= 200

    def repeat(self) -> None:
        """Send the last response again; nothing if there is none."""
        if self._response:
            self.peer.send(self._response, self._return_port)

    def drop_body(self) -> None:
        """The request was handled; its headers are kept for responses and for the dialog."""
        self.request = replace(self.request, body=b"")

    def acknowledge(self) -> None:
        """The final response has arrived."""
        if self._retransmission is not None:
            self._retransmission.stop()


class Transactions:
    """Those of late. The oldest make way when there are too many."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[tuple[str, str], Transaction] = OrderedDict()

    def find(self, request: Request, method: str) -> Transaction | None:
        """The transaction of `method` that a request belongs to."""
        return self._by_key.get((request.branch, method))

    def begin(self, request: Request, peer: Peer, return_port: int) -> Transaction:
        made = Transaction(request, peer, return_port)
        self._by_key[request.branch, request.method] = made
        while len(self._by_key) > _MAX_TRANSACTIONS:
            self._by_key.popitem(last=False)[1].acknowledge()
        return made

    def close(self) -> None:
        for transaction in self._by_key.values():
            transaction.acknowledge()
        self._by_key.clear()
