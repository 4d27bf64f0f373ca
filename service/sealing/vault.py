"""HashiCorp Vault's Transit engine, or OpenBao's, as the holder of the master key.

POST /v1/<mount>/encrypt/<key>, decrypt and rewrap, as documented for the engine's HTTP API. Make
the key with `derived=true`, which ties a wrapped key to its context in Vault itself.
"""

import asyncio
import base64
import hashlib
import http.client
import json
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from service.errors import SettingsError, Unavailable
from service.network import is_loopback
from service.reload import Reloaded
from service.secret_file import secret_text

log = logging.getLogger(__name__)

_MAX_REPLY_BYTES = 65536
_MARK = b"vault:"
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


class VaultTransit:
    """`Kms` by way of the Transit key `key`; each connection and read waits up to `timeout_s`.

    What is wrapped is the context's SHA-256 and the data key, since a Transit key that was made
    without `derived` ignores the context.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str,
        token: Callable[[], str],
        mount: str = "transit",
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = f"{parts.path.rstrip('/')}/v1/{quote(mount.strip('/'))}"
        self._key = quote(key, safe="")
        self._token = token
        self._tls = tls
        self._timeout_s = timeout_s

    @classmethod
    def at(
        cls,
        address: str,
        *,
        key: str,
        token_file: Path,
        mount: str = "transit",
        ca_file: Path | None = None,
        timeout_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Raises SettingsError unless `address` is https://, or http:// on this machine, and the
        token can be read."""
        token = Reloaded([token_file], lambda: secret_text(token_file).strip(), clock=clock)
        tls = _tls(address, ca_file)
        _ = token.value
        return cls(
            address,
            key=key,
            token=lambda: token.value,
            mount=mount,
            tls=tls,
            timeout_s=timeout_s,
        )

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        plain = hashlib.sha256(context).digest() + key
        return (await self._ask("encrypt", "ciphertext", context, plaintext=_text(plain))).encode()

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        answer = await self._ask("decrypt", "plaintext", context, ciphertext=_ciphertext(wrapped))
        digest = hashlib.sha256(context).digest()
        try:
            plain = base64.b64decode(answer, validate=True)
        except ValueError:
            plain = b""
        if not plain.startswith(digest):
            raise Unavailable(
                "a tenant's wrapped key was changed, or is another tenant's: restore it"
            )
        return plain[len(digest) :]

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        answer = await self._ask("rewrap", "ciphertext", context, ciphertext=_ciphertext(wrapped))
        return answer.encode()

    async def _ask(self, what: str, field: str, context: bytes, **body: str) -> str:
        payload = json.dumps({**body, "context": _text(context)})
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                status, reply = await asyncio.to_thread(self._post, what, payload)
            answer = json.loads(reply) if reply else {}
            if status == http.HTTPStatus.OK:
                return str(answer["data"][field])
            errors = answer.get("errors")
        except (OSError, http.client.HTTPException, *_UNREADABLE) as error:
            log.warning("Vault failed to %s a tenant's key: %s", what, error)
            raise Unavailable(f"Vault failed: {type(error).__name__}") from error
        log.warning("Vault refused to %s a tenant's key: %d %s", what, status, errors)
        raise Unavailable(f"Vault refused to {what} a tenant's key: {status}")

    def _post(self, what: str, payload: str) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {
            "Content-Type": "application/json",
            "X-Vault-Request": "true",
            "X-Vault-Token": self._token(),
        }
        try:
            connection.request("POST", f"{self._prefix}/{what}/{self._key}", payload, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(_MAX_REPLY_BYTES)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=self._tls
        )


def _tls(address: str, ca_file: Path | None) -> ssl.SSLContext | None:
    try:
        parts = urlsplit(address)
        place = f"{parts.hostname or ''}:{parts.port or 0}"
    except ValueError as error:
        raise _no_address() from error
    if parts.scheme == "http" and is_loopback(place):
        return None
    if parts.scheme != "https" or not parts.hostname:
        raise _no_address()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"{ca_file} holds no certificates: {error}") from error


def _no_address() -> SettingsError:
    return SettingsError(
        "Vault's address is https://host:port, or http:// of an agent on this machine, as tenants' "
        "keys pass over it"
    )


def _text(plain: bytes) -> str:
    return base64.b64encode(plain).decode()


def _ciphertext(wrapped: bytes) -> str:
    if not wrapped.startswith(_MARK):
        raise Unavailable("a tenant's key was wrapped by another master key than Vault's")
    return wrapped.decode()
