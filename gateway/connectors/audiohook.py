"""Genesys AudioHook, protocol version 2.

    open ─> opened ─> audio, ping ─> pong, paused, resumed ... ─> close ─> events ─> closed
              │
              └─ exactly one of the media that were offered: mu-law, the customer's channel if alone

Both sides count their messages from 1 on, and each says the last count that it saw of the other.
The server never closes the WebSocket: to end a session it sends `disconnect`, and the client
closes.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sayso import RawAudio

from gateway.answers import Changes
from gateway.calls import Calls, CallStart, LiveCall
from gateway.errors import CallRefused, ProtocolError
from gateway.sockets import Socket, parse_object, read_number, read_object, read_text

_PROBE = "00000000-0000-0000-0000-000000000000"
_CHANNELS = (["external"], ["external", "internal"])  # in the order of preference

_REPLIES = {"ping": "pong", "update": "updated"}
_LEAVING_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    type: str
    parameters: Mapping[str, Any]


class Session:
    """The messages of one session; raises `ProtocolError` for those that do not follow from the
    earlier ones."""

    def __init__(self, socket: Socket, session_id: str) -> None:
        self._socket = socket
        self._id = session_id
        self._sent = 0
        self._received = 0
        self._sending = asyncio.Lock()
        self._ending = False

    async def messages(self) -> AsyncIterator[Message | bytes]:
        """Yield messages, and audio, until the client leaves."""
        async for message in self._socket.messages():
            yield message if isinstance(message, bytes) else self._parse(message)

    async def send(self, kind: str, parameters: Mapping[str, Any]) -> None:
        async with self._sending:
            self._sent += 1
            await self._socket.send(
                {
                    "version": "2",
                    "type": kind,
                    "id": self._id,
                    "seq": self._sent,
                    "clientseq": self._received,
                    "parameters": parameters,
                }
            )

    async def send_event(self, data: Mapping[str, Any]) -> None:
        await self.send("event", {"entities": [{"type": "sayso.decision", "data": data}]})

    async def end(self) -> None:
        """Tell the client, once, that no more audio is needed."""
        if not self._ending:
            self._ending = True
            await self.send("disconnect", {"reason": "completed"})

    async def disconnect(self, reason: str, info: str) -> None:
        """Ask the client to close, and wait until it has, for a while."""
        await self.send("disconnect", {"reason": reason, "info": info})
        with contextlib.suppress(TimeoutError, ProtocolError):
            async with asyncio.timeout(_LEAVING_S):
                async for message in self.messages():
                    if isinstance(message, Message) and message.type == "close":
                        await self.send("closed", {})

    def _parse(self, text: str) -> Message:
        fields = parse_object(text)
        if read_text(fields, "version") != "2" or read_text(fields, "id") != self._id:
            raise ProtocolError("the version is not 2, or the id is of another session")
        if read_number(fields, "seq") != self._received + 1:
            raise ProtocolError("a message is missing, or came twice: seq is not the next")
        if read_number(fields, "serverseq", 0) > self._sent:
            raise ProtocolError("serverseq is of a message that was not sent")
        self._received += 1
        return Message(read_text(fields, "type"), read_object(fields, "parameters"))


async def verify_session(socket: Socket, calls: Calls, headers: Mapping[str, str]) -> None:
    """Verify the one call of a session, whose request was signed."""
    session = Session(socket, headers.get("audiohook-session-id", ""))
    try:
        organization = headers.get("audiohook-organization-id", "")
        await _verify(session, calls, organization, headers.get("x-api-key", ""))
    except CallRefused as error:
        log.warning("audiohook: %s", error)
        await session.disconnect("completed", "the call is not verified")
    except ProtocolError as error:
        log.warning("audiohook: disconnected: %s", error)
        await session.disconnect("error", str(error))


async def refuse(socket: Socket, headers: Mapping[str, str]) -> None:
    """Tell a client whose request was not signed, not too soon."""
    await asyncio.sleep(0.5)  # however long the check took
    session = Session(socket, headers.get("audiohook-session-id", ""))
    await session.disconnect("unauthorized", "the signature is not valid")


async def _verify(session: Session, calls: Calls, organization: str, key: str) -> None:
    messages = session.messages()
    first = await anext(messages, None)
    if first is None:
        return
    if isinstance(first, bytes) or first.type != "open":
        raise ProtocolError("the first message is no open")
    if read_text(first.parameters, "organizationId") != organization:
        raise ProtocolError("the organization is not that of the request")
    media = choose_media(first.parameters.get("media"))
    opened = {"startPaused": False, "media": [media]}
    conversation = read_text(first.parameters, "conversationId")
    if conversation == _PROBE:  # the integration is being saved: there is no call
        await session.send("opened", opened)
        await _follow(session, messages, None)
        return
    start = CallStart(
        conversation,
        RawAudio("MULAW", 8000, len(media["channels"])),
        channel=0 if len(media["channels"]) == 2 else None,
        speaker_id=read_text(read_object(first.parameters, "inputVariables"), "speaker_id", ""),
    )
    answer = Changes(session.send_event, conversation)
    async with calls.open(start, answer, resume_as=f"audiohook {key}") as call:
        await session.send("opened", opened)
        if not await _follow(session, messages, call):
            call.lose()


async def _follow(
    session: Session, messages: AsyncIterator[Message | bytes], call: LiveCall | None
) -> bool:
    """Follow a session until it is closed; False if it broke, or closed to come back."""
    paused = False
    async for message in messages:
        if isinstance(message, bytes):
            if paused:
                raise ProtocolError("audio came while the session was paused")
            await _hear(session, call, message)
        elif message.type == "close":
            returns = message.parameters.get("reason") == "reconnect"
            await _close(session, messages, None if returns else call)
            return not returns
        elif message.type in _REPLIES:
            await session.send(_REPLIES[message.type], {})
        elif message.type in ("paused", "resumed"):
            paused = message.type == "paused"
        elif message.type == "error":
            text = str(message.parameters.get("message"))[:200]
            log.warning("audiohook: the client reports %r", text)
        elif message.type == "open":
            raise ProtocolError("a second open")
    return False


async def _hear(session: Session, call: LiveCall | None, audio: bytes) -> None:
    if call is None:
        return
    await call.hear(audio)
    if call.done:
        await session.end()


async def _close(
    session: Session, messages: AsyncIterator[Message | bytes], call: LiveCall | None
) -> None:
    """Send the last events, then `closed`."""
    if call is not None:
        await call.finish()
    await session.send("closed", {})
    await _wait_for_end(messages)


async def _wait_for_end(messages: AsyncIterator[Message | bytes]) -> None:
    """The client closes the WebSocket, and sends no audio before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LEAVING_S):
            async for message in messages:
                if isinstance(message, bytes):
                    raise ProtocolError("audio came after close")


def choose_media(offered: Any) -> Mapping[str, Any]:
    """The entry to take, as it was offered; raises `ProtocolError` if none will do."""
    entries: Sequence[Any] = offered if isinstance(offered, list) else ()
    for channels in _CHANNELS:
        for entry in entries:
            if (
                isinstance(entry, dict)
                and entry.get("format") == "PCMU"
                and entry.get("rate") == 8000
                and entry.get("channels") == channels
            ):
                return entry
    raise ProtocolError("no mu-law media with the customer's channel is offered")
