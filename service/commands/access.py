"""TLS and the credential of client commands, read from the environment: every process of a machine
can see a command line."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from sayso import Client, Tls

from service.errors import SettingsError

_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Access:
    """How commands connect; each field is read from `SAYSO_` and its name in capitals.

    `tls` trusts the roots that gRPC ships; `insecure` allows sending a credential in plaintext to
    another machine; `server_name` is the name in the server's certificate if it is not its address.
    """

    credential: str | None = field(default=None, repr=False)
    ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    server_name: str | None = None
    tls: bool = False
    insecure: bool = False

    @classmethod
    def read(cls) -> Self:
        """Read the environment; raises `SettingsError` that names the variable."""
        return cls(
            credential=_read_text("CREDENTIAL"),
            ca=_read_path("CA"),
            client_certificate=_read_path("CLIENT_CERTIFICATE"),
            client_key=_read_path("CLIENT_KEY"),
            server_name=_read_text("SERVER_NAME"),
            tls=_read_flag("TLS"),
            insecure=_read_flag("INSECURE"),
        )

    def open_client(self, server: str, *, timeout_s: float) -> Client:
        return Client(
            server,
            timeout_s=timeout_s,
            credential=self.credential,
            tls=self._make_tls(),
            insecure=self.insecure,
        )

    def _make_tls(self) -> Tls | None:
        if not (self.tls or self.ca or self.client_certificate or self.client_key):
            return None
        return Tls(self.ca, self.client_certificate, self.client_key, self.server_name)


def _read_text(name: str) -> str | None:
    return os.environ.get(f"SAYSO_{name}") or None


def _read_path(name: str) -> Path | None:
    text = _read_text(name)
    return None if text is None else Path(text)


def _read_flag(name: str) -> bool:
    text = (_read_text(name) or "false").lower()
    if text not in _TRUE | _FALSE:
        raise SettingsError(f"SAYSO_{name}: is true or false")
    return text in _TRUE
