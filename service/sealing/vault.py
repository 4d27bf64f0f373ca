"""The Transit engine of HashiCorp Vault or OpenBao as the KMS.

Create the key with `derived=true`, so that Vault itself ties a wrapped key to its context.
"""

import asyncio
import base64
import hashlib
import importlib.util
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from service.errors import SettingsError, Unavailable
from service.network import is_loopback
from service.reload import Reloaded
from service.secret_file import read_secret

log = logging.getLogger(__name__)

_MARK = b"vault:"
_MALFORMED_REPLY = (ValueError, KeyError, TypeError, AttributeError)


class VaultTransit:
    """`Kms` on the Transit key `key`; each connection and read waits up to `timeout_s`.

    Wraps the context's SHA-256 together with the data key, because a Transit key that was created
    without `derived` ignores the context.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str,
        token: Callable[[], str],
        mount: str = "transit",
        roots: str | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self._address = address
        self._key = key
        self._token = token
        self._mount = mount.strip("/")
        self._roots = roots
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
        """Check and build; raises SettingsError unless `address` is https://, or http:// on this
        machine, the token can be read, and hvac is installed."""
        token = Reloaded([token_file], lambda: read_secret(token_file).strip(), clock=clock)
        _check_address(address)
        roots = _find_roots(ca_file)
        _ = token.value
        if importlib.util.find_spec("hvac") is None:
            raise SettingsError(
                "SAYSO_VAULT_ADDRESS: Vault needs a package that is not installed: "
                "pip install sayso[vault]"
            )
        return cls(
            address,
            key=key,
            token=lambda: token.value,
            mount=mount,
            roots=roots,
            timeout_s=timeout_s,
        )

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        plain = hashlib.sha256(context).digest() + key
        wrapped = await self._ask("encrypt", "ciphertext", context, plaintext=_encode(plain))
        return wrapped.encode()

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        answer = await self._ask(
            "decrypt", "plaintext", context, ciphertext=_decode_wrapped(wrapped)
        )
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
        answer = await self._ask(
            "rewrap", "ciphertext", context, ciphertext=_decode_wrapped(wrapped)
        )
        return answer.encode()

    async def _ask(self, what: str, field: str, context: bytes, **body: str) -> str:
        """Ask Vault in a thread, as hvac blocks, and return `field` of its answer."""
        from hvac.exceptions import VaultError  # noqa: PLC0415 - an extra

        try:
            async with asyncio.timeout(2 * self._timeout_s):
                answer = await asyncio.to_thread(self._post, what, context, body)
            return str(answer["data"][field])
        except (OSError, *_MALFORMED_REPLY) as error:
            log.warning("Vault failed to %s a tenant's key: %s", what, error)
            raise Unavailable(f"Vault failed: {type(error).__name__}") from error
        except VaultError as error:
            log.warning("Vault refused to %s a tenant's key: %r", what, error)
            raise Unavailable(
                f"Vault refused to {what} a tenant's key: {type(error).__name__}"
            ) from error

    def _post(self, what: str, context: bytes, body: dict[str, str]) -> Any:
        """Call Vault with a new client: calls are about an hour apart, and a proxy or firewall may
        have dropped an idle connection by then."""
        import hvac  # noqa: PLC0415 - an extra
        import requests  # noqa: PLC0415 - comes with hvac

        with closing(requests.Session()) as session:
            session.trust_env = False  # no proxy sees a tenant's key
            session.verify = self._roots or True
            client = hvac.Client(
                self._address,
                token=self._token(),
                timeout=self._timeout_s,  # pyright: ignore[reportArgumentType] - or a float
                allow_redirects=False,  # the token goes to no other host
                session=session,
            )
            transit = client.secrets.transit
            ask = {
                "encrypt": transit.encrypt_data,
                "decrypt": transit.decrypt_data,
                "rewrap": transit.rewrap_data,
            }[what]
            return ask(self._key, context=_encode(context), mount_point=self._mount, **body)


def _check_address(address: str) -> None:
    """Raise SettingsError for an address over which keys would be sent in plain text."""
    try:
        parts = urlsplit(address)
        place = f"{parts.hostname or ''}:{parts.port or 0}"
    except ValueError as error:
        raise _make_address_error() from error
    if parts.scheme == "http" and is_loopback(place):
        return
    if parts.scheme != "https" or not parts.hostname:
        raise _make_address_error()


def _find_roots(ca_file: Path | None) -> str | None:
    """Return the file or folder of root certificates: the operator's, else the system's, since
    requests would trust its own bundle. Raises SettingsError if `ca_file` holds none."""
    paths = ssl.get_default_verify_paths()
    if ca_file is None:
        return paths.cafile or paths.capath
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"{ca_file} holds no certificates: {error}") from error
    return str(ca_file)


def _make_address_error() -> SettingsError:
    return SettingsError(
        "Vault's address is https://host:port, or http:// of an agent on this machine, as tenants' "
        "keys pass over it"
    )


def _encode(plain: bytes) -> str:
    return base64.b64encode(plain).decode()


def _decode_wrapped(wrapped: bytes) -> str:
    if not wrapped.startswith(_MARK):
        raise Unavailable("a tenant's key was wrapped by another master key than Vault's")
    return wrapped.decode()
