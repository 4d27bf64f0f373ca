"""TLS of the listener, with certificates that are replaced in place.

With a client CA every client shows a certificate of it (mutual TLS); whose it is, the key file
says: `service.access`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from service.errors import SettingsError
from service.reload import Reloaded
from service.secret_file import public_bytes, secret_bytes

_DAY_S = 86_400.0
_WARN_DAYS = 21

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the chain with the server's certificate first, its key without a passphrase,
    and, for mutual TLS, the roots that clients' certificates come from."""

    chain: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, chain: Path | None, key: Path | None, client_ca: Path | None) -> Self | None:
        """None where nothing is set; raises `SettingsError` where only some of it is."""
        if chain is not None and key is not None:
            return cls(chain, key, client_ca)
        if chain is None and key is None and client_ca is None:
            return None
        raise SettingsError(
            "SAYSO_TLS_CERTIFICATE and SAYSO_TLS_KEY go together, and SAYSO_TLS_CLIENT_CA with "
            "them; set both, or none"
        )

    def read(
        self, *, clock: Callable[[], float] = time.time
    ) -> grpc.ServerCertificateConfiguration:
        """Raises `SettingsError` for files that are missing, broken, of another pair, or with which
        no client would complete a handshake."""
        chain, key = _bytes(self.chain, public_bytes), _bytes(self.key, secret_bytes)
        roots = None if self.client_ca is None else _bytes(self.client_ca, public_bytes)
        try:
            leaf, *_ = load_pem_x509_certificates(chain)
            ours = load_pem_private_key(key, password=None).public_key() == leaf.public_key()
            if roots is not None:
                load_pem_x509_certificates(roots)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"TLS: {self._named} cannot be read as PEM: {error}") from error
        if not ours:
            raise SettingsError(
                f"TLS: {self.key} is not the key of the first certificate in {self.chain}"
            )
        if not isinstance(leaf.public_key(), ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise SettingsError(
                f"TLS: gRPC serves certificates with an ECDSA or RSA key only, and that of "
                f"{self.chain} is of another kind, such as Ed25519"
            )
        if expires_at(leaf) <= clock():
            raise SettingsError(
                f"TLS: the certificate in {self.chain} expired on "
                f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
            )
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def expires_at(self) -> float:
        """Seconds since the epoch at which the server's certificate, as it now is, expires."""
        leaf, *_ = load_pem_x509_certificates(_bytes(self.chain, public_bytes))
        return expires_at(leaf)

    @property
    def paths(self) -> tuple[Path, ...]:
        every = (self.chain, self.key, self.client_ca)
        return tuple(path for path in every if path is not None)

    @property
    def _named(self) -> str:
        return ", ".join(map(str, self.paths))


def expires_at(leaf: Certificate) -> float:
    return leaf.not_valid_after_utc.timestamp()


async def announce_expiry(
    certificates: Certificates | None,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Says in the log, once a day, that the certificate expires within three weeks, or has."""
    while certificates is not None:
        try:
            left_s = certificates.expires_at() - clock()
        except (SettingsError, ValueError) as error:
            log.error("TLS: the certificate cannot be read: %s", error)
        else:
            if left_s <= 0:
                log.error("TLS: %s has EXPIRED: renew it", certificates.chain)
            elif left_s < _WARN_DAYS * _DAY_S:
                days = left_s / _DAY_S
                log.warning("TLS: %s expires in %.1f days", certificates.chain, days)
        await sleep(_DAY_S)


def server_credentials(
    certificates: Certificates, *, look_every_s: float = 1.0
) -> grpc.ServerCredentials:
    """For `add_secure_port`; each new connection gets the certificates as the files then are.

    Connections that stand keep theirs. Raises `SettingsError`.
    """
    followed = Reloaded(certificates.paths, certificates.read, look_every_s=look_every_s)
    return grpc.dynamic_ssl_server_credentials(
        followed.value,
        _changes(followed),  # type: ignore[arg-type]  # the stubs leave out None
        require_client_authentication=certificates.client_ca is not None,
    )


def _changes(
    followed: Reloaded[grpc.ServerCertificateConfiguration],
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """What gRPC asks at each new connection: a new configuration, or None to keep the last."""
    told = followed.value

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        now = followed.value
        if now is told:
            return None
        told = now
        return now

    return changed


def _bytes(path: Path, read: Callable[[Path], bytes]) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise SettingsError(f"TLS: cannot read {path}: {error.strerror}") from error
