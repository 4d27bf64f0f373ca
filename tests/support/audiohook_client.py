"""A client of AudioHook, by the protocol's own page: counts, signs and closes as Genesys does."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import connect

from gateway.connectors.http_signature import COVERED

ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
CLIENT_SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="  # noqa: S105 - the documentation's own
EXTERNAL = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}
BOTH = {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000}
OFFERED = [BOTH, EXTERNAL, {**EXTERNAL, "channels": ["internal"]}]


class AudioHookClient:
    """One session: `send` messages and audio, `receive` what the server says."""

    def __init__(
        self, address: str, *, conversation: str = "", authority: str = "", **signing: Any
    ) -> None:
        self.session = str(uuid.uuid4())
        self.conversation = conversation or str(uuid.uuid4())
        self._url = f"ws://{address}/audiohook"
        self._headers = sign(authority or address, self.session, **signing)
        self._seq = self._serverseq = 0
        self.said: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self.socket = await connect(self._url, additional_headers=self._headers, proxy=None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()

    async def send(self, kind: str, parameters: dict[str, Any], /, **changes: Any) -> None:
        self._seq += 1
        message = {
            "version": "2",
            "type": kind,
            "id": self.session,
            "seq": self._seq,
            "serverseq": self._serverseq,
            "position": "PT0S",
            "parameters": parameters,
        }
        await self.socket.send(json.dumps(message | changes))

    async def open(self, **changes: Any) -> dict[str, Any]:
        """Open the session; what the server answers."""
        parameters = {
            "organizationId": ORGANIZATION,
            "conversationId": self.conversation,
            "participant": {"id": str(uuid.uuid4()), "ani": "+49301234", "dnis": "+49305678"},
            "media": OFFERED,
        }
        await self.send("open", parameters | changes)
        return await self.receive()

    async def receive(self) -> dict[str, Any]:
        """The next message of the server; checks its counts."""
        message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["version"] == "2"
        assert message["id"] == self.session
        assert message["seq"] == self._serverseq + 1
        assert message["clientseq"] <= self._seq
        self._serverseq += 1
        self.said.append(message)
        return message

    async def receive_until(self, kind: str) -> dict[str, Any]:
        while (message := await self.receive())["type"] != kind:
            pass
        return message

    async def close(self) -> None:
        """Close the session; events that come before `closed` are in `said`."""
        await self.send("close", {"reason": "end"})
        await self.receive_until("closed")
        await self.socket.close()

    @property
    def outcomes(self) -> list[str]:
        events = [message for message in self.said if message["type"] == "event"]
        return [event["parameters"]["entities"][0]["data"]["outcome"] for event in events]


def sign(
    authority: str,
    session: str,
    *,
    target: str = "/audiohook",
    key: str = API_KEY,
    secret: str = CLIENT_SECRET,
    created: float | None = None,
    nonce: str | None = None,
    covered: tuple[str, ...] = COVERED,
) -> dict[str, str]:
    """The headers of a signed request."""
    headers = {
        "audiohook-organization-id": ORGANIZATION,
        "audiohook-session-id": session,
        "audiohook-correlation-id": str(uuid.uuid4()),
        "x-api-key": key,
    }
    at = int(time.time() if created is None else created)
    components = " ".join(f'"{name}"' for name in covered)
    unique = base64.b64encode(secrets.token_bytes(18)).decode() if nonce is None else nonce
    parameters = (
        f'({components});keyid="{key}";nonce="{unique}";alg="hmac-sha256"'
        f";created={at};expires={at + 30}"
    )
    values = {"@request-target": target, "@authority": authority, **headers}
    lines = [f'"{name}": {values[name]}' for name in covered]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    made = hmac.new(base64.b64decode(secret), base.encode(), hashlib.sha256).digest()
    return {
        **headers,
        "Signature-Input": f"sig1={parameters}",
        "Signature": f"sig1=:{base64.b64encode(made).decode()}:",
    }
