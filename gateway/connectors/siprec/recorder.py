"""The recording server: requests to sessions."""

import asyncio
import logging
import secrets
from collections.abc import Callable

from gateway import metrics
from gateway.calls import Calls
from gateway.connectors.siprec.messages import Request, Response, find_return_port, parse_message
from gateway.connectors.siprec.sessions import (
    ALLOW,
    Dialog,
    RecordingLimits,
    RecordingSession,
    Rejected,
    parse_body,
)
from gateway.connectors.siprec.transactions import Peer, Retransmission, Transaction, Transactions
from gateway.errors import GatewayError, ProtocolError

log = logging.getLogger(__name__)

_SUPPORTED = {"siprec", "timer"}

DialogKey = tuple[str, str]
"""Call-ID and the tag of the platform."""


class Recorder:
    """All recording sessions."""

    def __init__(self, calls: Calls, limits: RecordingLimits) -> None:
        self._calls = calls
        self._limits = limits
        self._transactions = Transactions()
        self._sessions: dict[DialogKey, RecordingSession] = {}
        self._tasks: dict[DialogKey, asyncio.Task[None]] = {}
        self._byes: dict[str, Retransmission] = {}
        self._handlers: dict[str, Callable[[Transaction], None]] = {
            "INVITE": self._invite,
            "UPDATE": self._change,
            "BYE": self._bye,
            "CANCEL": self._cancel,
            "OPTIONS": self._describe,
            "INFO": self._note,
        }

    def __len__(self) -> int:
        return len(self._sessions)

    def receive(self, data: bytes, peer: Peer) -> None:
        """Take a message that came; raises `ProtocolError`."""
        metrics.CONNECTOR.set("siprec")
        message = parse_message(data)
        if isinstance(message, Response):
            if bye := self._byes.pop(message.branch.partition(" ")[0], None):
                bye.stop()
        elif message.method == "ACK":
            self._acknowledge(message)
        elif known := self._transactions.find(message, message.method):
            known.repeat()
        else:
            port = find_return_port(message, peer.port)
            self._handle(self._transactions.begin(message, peer, port))

    async def close(self) -> None:
        """End the sessions that are left."""
        for session in tuple(self._sessions.values()):
            if not session.cancel():
                session.hang_up()
        for task in (tasks := tuple(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._transactions.close()
        for bye in self._byes.values():
            bye.stop()

    def _handle(self, transaction: Transaction) -> None:
        request = transaction.request
        handle = self._handlers.get(request.method)
        try:
            if handle is None:
                raise Rejected(405, f"the method is {request.method!r:.40}", ("Allow", ALLOW))
            unsupported = request.list_options("require") - _SUPPORTED
            if unsupported and request.method != "CANCEL":
                listed = ", ".join(sorted(unsupported))
                raise Rejected(420, f"{listed!r:.140} is required", ("Unsupported", listed))
            handle(transaction)
        except Rejected as rejected:
            if request.method == "INVITE":
                metrics.count_refusal("full" if rejected.status == 503 else "invalid")
            log.warning("siprec: %s refused: %s", request.method, rejected)
            transaction.respond(rejected.status, rejected.headers)
        except GatewayError as error:
            if request.method == "INVITE":
                metrics.count_refusal("invalid")
            log.warning("siprec: %s refused: %s", request.method, error)
            transaction.respond(400 if isinstance(error, ProtocolError) else 403)
        transaction.drop_body()

    def _invite(self, transaction: Transaction) -> None:
        request = transaction.request
        transaction.respond(100)
        if request.to_tag:
            self._change(transaction)
            return
        if not self._calls.accepting:
            raise Rejected(503, "the gateway is full or about to stop", ("Retry-After", "10"))
        key = request.call_id, request.from_tag
        if key in self._sessions:
            raise Rejected(491, "a session of this Call-ID is in progress")
        body = parse_body(request)
        session = RecordingSession(transaction, body, self._calls, self._limits, self._send_bye)
        self._sessions[key] = session
        self._tasks[key] = task = asyncio.create_task(session.run())
        task.add_done_callback(lambda _: self._forget(key))

    def _forget(self, key: DialogKey) -> None:
        del self._sessions[key], self._tasks[key]

    def _find(self, request: Request) -> RecordingSession:
        """The session of a request within one; raises `Rejected`."""
        session = self._sessions.get((request.call_id, request.from_tag))
        if session is None or session.over or session.dialog.tag != request.to_tag:
            raise Rejected(481, "no such session")
        if request.cseq <= session.dialog.remote_cseq:
            raise Rejected(500, "a request came out of its order")
        session.dialog.remote_cseq = request.cseq
        return session

    def _change(self, transaction: Transaction) -> None:
        session = self._find(transaction.request)
        session.change(transaction, parse_body(transaction.request))

    def _bye(self, transaction: Transaction) -> None:
        session = self._find(transaction.request)
        transaction.respond(200)
        session.finish()

    def _cancel(self, transaction: Transaction) -> None:
        request = transaction.request
        invite = self._transactions.find(request, "INVITE")
        if invite is None:
            raise Rejected(481, "no such transaction")
        transaction.respond(200)
        key = request.call_id, request.from_tag
        session = self._sessions.get(key)
        if session is not None and not invite.final and session.cancel():
            self._tasks[key].cancel()

    def _acknowledge(self, request: Request) -> None:
        if invite := self._transactions.find(request, "INVITE"):
            invite.acknowledge()
        session = self._sessions.get((request.call_id, request.from_tag))
        if session is not None and session.dialog.tag == request.to_tag:
            session.acknowledge(request.cseq)

    def _describe(self, transaction: Transaction) -> None:
        """Platforms ask whether there is anybody, and go elsewhere while there is not."""
        accept = "application/sdp, multipart/mixed, application/rs-metadata"
        headers = (("Allow", ALLOW), ("Accept", accept), ("Supported", "siprec, timer"))
        transaction.respond(503 if self._calls.draining else 200, headers)

    def _note(self, transaction: Transaction) -> None:
        self._find(transaction.request)
        transaction.respond(200)

    def _send_bye(self, dialog: Dialog) -> None:
        branch = f"z9hG4bK{secrets.token_hex(12)}"
        bye, peer = dialog.make_bye(branch), dialog.peer
        peer.send(bye)
        if not peer.reliable:
            self._byes[branch] = Retransmission(
                lambda: peer.send(bye), lambda: self._drop_bye(branch)
            )

    def _drop_bye(self, branch: str) -> None:
        self._byes.pop(branch, None)
