"""How client commands reach a server: TLS and the credential come from the environment, since a
command line is seen by every process of the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.client import Client, Tls
from service.commands.terminal import one_line_errors
from service.errors import SettingsError


class Access(BaseSettings):
    """What the commands show to a server, and what they trust; each field is `SAYSO_` and its
    name in capitals."""

    model_config = SettingsConfigDict(env_prefix="SAYSO_", frozen=True, env_ignore_empty=True)

    credential: SecretStr | None = Field(default=None, description="an API key or a JSON Web Token")
    ca: Path | None = Field(
        default=None, description="PEM file of the roots to trust; makes it TLS"
    )
    client_certificate: Path | None = Field(default=None, description="PEM file, for mutual TLS")
    client_key: Path | None = Field(default=None, description="PEM file, for mutual TLS")
    server_name: str | None = Field(
        default=None,
        description="whom the server's certificate is for, where that is not its address",
    )
    tls: bool = Field(default=False, description="TLS with the roots that gRPC comes with")
    insecure: bool = Field(
        default=False, description="show a credential in plaintext to other machines"
    )

    @classmethod
    def read(cls) -> Self:
        """Raises `SettingsError` that names the variable."""
        try:
            return cls()
        except ValidationError as error:
            wrong = (f"SAYSO_{problem['loc'][0]}".upper() for problem in error.errors())
            raise SettingsError(f"{', '.join(wrong)}: is true or false") from error

    def client(self, server: str, *, timeout_s: float) -> Client:
        return Client(
            server,
            timeout_s=timeout_s,
            credential=self.credential.get_secret_value() if self.credential else None,
            tls=self._tls(),
            insecure=self.insecure,
        )

    def _tls(self) -> Tls | None:
        if not (self.tls or self.ca or self.client_certificate or self.client_key):
            return None
        return Tls(self.ca, self.client_certificate, self.client_key, self.server_name)


@contextmanager
def connected(server: str, *, timeout_s: float = 30.0) -> Iterator[Client]:
    """A client while inside; an error that the user can act on is one line and exit status 2."""
    with one_line_errors(), Access.read().client(server, timeout_s=timeout_s) as sayso:
        yield sayso
