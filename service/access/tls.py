"""TLS for the listener; certificates can be replaced in place.

With a client CA, every client must present a certificate issued by it (mutual TLS); the key file
maps certificate names to callers.
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
from service.secret_file import read_public_bytes, read_secret_bytes
from service.settings import TlsFiles

_DAY_S = 86_400.0
_WARN_DAYS = 21

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the chain with the server's certificate first, its key without a passphrase, and,
    for mutual TLS, the CA certificates that clients are checked against."""

    chain: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def from_files(cls, files: TlsFiles) -> Self | None:
        """None if nothing is set; raises `SettingsError` if only a part is."""
        if files.certificate is not None and files.key is not None:
            return cls(files.certificate, files.key, files.client_ca)
        if files == TlsFiles():
            return None
        raise SettingsError(
            "SAYSO_TLS_CERTIFICATE and SAYSO_TLS_KEY go together, and SAYSO_TLS_CLIENT_CA with "
            "them; set both, or none"
        )

    def read(
        self, *, clock: Callable[[], float] = time.time
    ) -> grpc.ServerCertificateConfiguration:
        """Read and check the files; raises `SettingsError` if they are missing or malformed, do not
        belong together, or hold a key that no client could complete a handshake with."""
        chain, key = (
            _read_file(self.chain, read_public_bytes),
            _read_file(self.key, read_secret_bytes),
        )
        roots = None if self.client_ca is None else _read_file(self.client_ca, read_public_bytes)
        try:
            leaf, *_ = load_pem_x509_certificates(chain)
            matches = load_pem_private_key(key, password=None).public_key() == leaf.public_key()
            if roots is not None:
                load_pem_x509_certificates(roots)
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"TLS: {', '.join(map(str, self.paths))} cannot be read as PEM: {error}"
            ) from error
        if not matches:
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
        """When the server's current certificate expires, in seconds since the epoch."""
        leaf, *_ = load_pem_x509_certificates(_read_file(self.chain, read_public_bytes))
        return expires_at(leaf)

    @property
    def paths(self) -> tuple[Path, ...]:
        paths = (self.chain, self.key, self.client_ca)
        return tuple(path for path in paths if path is not None)


def expires_at(leaf: Certificate) -> float:
    return leaf.not_valid_after_utc.timestamp()


async def announce_expiry(
    certificates: Certificates | None,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Warn in the log once a day if the certificate has expired or will within three weeks."""
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
    """For `add_secure_port`; each new connection uses the certificates currently in the files.

    Open connections keep theirs. Raises `SettingsError`.
    """
    configuration = Reloaded(certificates.paths, certificates.read, look_every_s=look_every_s)
    return grpc.dynamic_ssl_server_credentials(
        configuration.value,
        _fetch_changes(configuration),  # type: ignore[arg-type]  # the stubs leave out None
        require_client_authentication=certificates.client_ca is not None,
    )


def _fetch_changes(
    configuration: Reloaded[grpc.ServerCertificateConfiguration],
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """gRPC's callback at each new connection: a new configuration, or None to keep the last."""
    last = configuration.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        current = configuration.value
        if current is last:
            return None
        last = current
        return current

    return fetch


def _read_file(path: Path, read: Callable[[Path], bytes]) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise SettingsError(f"TLS: cannot read {path}: {error.strerror}") from error
