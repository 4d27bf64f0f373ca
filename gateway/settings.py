"""Settings of the gateway: `SAYSO_GATEWAY_*`, and those by which every client finds the server."""

import ipaddress
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import grpc
from pydantic import Field, SecretStr, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_settings import BaseSettings, SettingsConfigDict
from sayso import AsyncClient, SettingsError, Tls
from sayso.connection import Target

PREFIX = "SAYSO_GATEWAY_"

_SWITCHES = (
    "twilio_auth_tokens",
    "stream_tokens",
    "audiohook_keys",
    "pcm",
    "audiosocket_listen",
    "siprec_listen",
    "siprec_tls_listen",
    "forks_listen",
    "azure",
    "voice_id_keys",
    "webhooks",
    "rest",
    "console",
)
"""What switches a connector, an interface, or what people use, on."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of all calls (`max_calls`) and of each. A platform may be silent for `max_pause_s`,
    and says whose call it is within `start_s`."""

    max_calls: int = 1000
    max_call_s: float = 3600.0
    max_pause_s: float = 120.0
    start_s: float = 10.0
    message_s: float = 0.2
    reconnect_s: float = 5.0
    buffer_s: float = 10.0
    stall_s: float = 10.0
    conclude_s: float = 8.0


def _of_client(variable: str, default: Any, description: str) -> Any:
    """A setting that every client of the server has."""
    return Field(default, validation_alias=f"SAYSO_{variable}", description=description)


class Settings(BaseSettings):
    """All that an operator can set; each variable is `SAYSO_GATEWAY_` and the field's name in
    capitals, but for those of the client."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
    )

    listen: str = Field(
        "127.0.0.1:8080", description="host:port for HTTP and WebSockets; port 0 picks one"
    )
    public_url: str = Field(
        "", description="how platforms reach it, e.g. wss://voice.example.com; Twilio signs it"
    )
    tls_certificate: Path | None = Field(None, description="PEM file of the certificate")
    tls_key: Path | None = Field(None, description="PEM file of its key, without a passphrase")
    insecure: bool = Field(
        False, description="serve plaintext to other machines, behind a proxy that does TLS"
    )

    policy: str = Field(
        "", description="the server's policy to decide by, for calls that are not announced"
    )
    require_announced: bool = Field(
        False, description="verify announced calls only, whatever the media claims"
    )

    twilio_auth_tokens: Path | None = Field(
        None, description="file of Twilio auth tokens, one a line; switches Twilio on"
    )
    stream_tokens: Path | None = Field(
        None,
        description="file of tokens, one a line, of 20 characters or more; switches Telnyx, Plivo, "
        "SignalWire, Exotel, Bandwidth and Vonage on",
    )
    audiohook_keys: Path | None = Field(
        None,
        description="file of Genesys AudioHook keys: API key and client secret, one pair a line; "
        "switches it on",
    )
    pcm: bool = Field(
        False, description="take PCM over WebSockets from whoever shows a key of the server"
    )

    rest: bool = Field(
        False, description="serve REST under /v1 to whoever shows a credential of the server"
    )
    console: bool = Field(
        False, description="serve the console at /console, with REST and PCM over WebSockets"
    )
    oidc_issuer: str = Field(
        "",
        description="the issuer of tokens at which people sign in to the console, as its tokens "
        "and SAYSO_JWT_ISSUER have it",
    )
    oidc_client_id: str = Field("", description="the console's client id there, a public client")
    oidc_scope: str = Field("openid", description="the scopes to ask the issuer for")

    audiosocket_listen: str | None = Field(
        None, description="host:port for Asterisk AudioSocket; switches it on"
    )
    audiosocket_allow: str = Field(
        "127.0.0.0/8,::1",
        description="networks from which AudioSocket is taken, with commas between",
    )

    forks_listen: str | None = Field(
        None,
        description="host:port for the gRPC of Webex Contact Center and Five9, each switched on by "
        "a setting of its own; with the gateway's certificate, if it has one",
    )
    webex_url: str = Field(
        "",
        description="the URL that the Webex data source was registered with, which its tokens "
        "name; switches Webex on",
    )
    webex_issuers: str = Field(
        "https://idbroker.webex.com/idb,https://idbroker-eu.webex.com/idb,"
        "https://idbroker-b-us.webex.com/idb,https://idbroker-ca.webex.com/idb",
        description="issuers whose tokens of Webex are taken, with commas between; their keys are "
        "fetched from them",
    )
    five9_tokens: Path | None = Field(
        None,
        description="file of Five9 trust tokens, one a line, of 20 characters or more; switches "
        "Five9 on",
    )

    siprec_listen: str | None = Field(
        None, description="host:port for SIPREC over UDP and TCP; switches it on"
    )
    siprec_tls_listen: str | None = Field(
        None,
        description="host:port for SIPREC over TLS, with the gateway's certificate; switches it on",
    )
    siprec_client_ca: Path | None = Field(
        None, description="PEM file of the roots of the certificates that SIPREC's TLS asks for"
    )
    siprec_allow: str = Field(
        "127.0.0.0/8,::1", description="networks from which SIPREC is taken, with commas between"
    )
    siprec_address: str = Field(
        "",
        description="the address that platforms send audio to, if it is not the one that they "
        "reach by SIP",
    )
    siprec_media_ports: str = Field(
        "20000-29999", description="UDP ports for SIPREC's audio, of which the even ones are used"
    )
    siprec_call_id: str = Field(
        "session",
        description="by which id SIPREC calls are announced: session, sip_session, ucid or "
        "original of the metadata, guid, recording, or the name of a SIP header",
    )
    siprec_label: str = Field(
        "", description="label of the caller's stream, in place of what the metadata say"
    )

    azure: bool = Field(
        False,
        description="answer Azure Speaker Recognition's REST API, for whoever shows a key of the "
        "server",
    )
    azure_group: str = Field(
        "azure", description="the group that identification profiles are members of"
    )
    voice_id_keys: Path | None = Field(
        None,
        description="file of an access key id, a secret access key and a key of the server, three "
        "a line; switches Amazon Connect Voice ID's API on",
    )
    webhooks: Path | None = Field(
        None,
        description="TOML file of the endpoints that events are posted to; switches webhooks on",
    )
    state: Path | None = Field(
        None, description="SQLite file of the events that endpoints have not taken yet"
    )

    max_calls: int = Field(1000, ge=1, description="calls in progress")
    max_call_s: float = Field(3600.0, gt=0, description="seconds of audio of one call")
    max_pause_s: float = Field(120.0, gt=0, description="seconds that a platform may send nothing")
    start_s: float = Field(10.0, gt=0, description="seconds within which a call has to begin")
    message_s: float = Field(
        0.2,
        gt=0,
        le=1,
        description="seconds of audio that are read and sent to the server at once, at the most; "
        "less decides earlier, and costs more",
    )
    reconnect_s: float = Field(
        5.0,
        ge=0,
        description="seconds that a call waits for its platform to come back when the connection "
        "broke; 0: none",
    )
    buffer_s: float = Field(
        10.0, gt=0, description="seconds of audio that may wait for the server, for each call"
    )
    stall_s: float = Field(
        10.0, gt=0, description="seconds after which a call is given up whose audio is not taken"
    )
    conclude_s: float = Field(
        8.0, gt=0, description="seconds that the last decision may take after the audio's end"
    )
    drain_s: float = Field(
        30.0, ge=0, description="seconds that calls in progress may take at shutdown"
    )
    metrics_listen: str | None = Field(None, description="host:port for Prometheus; unset: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    log_format: Literal["text", "json"] = Field(
        "text", description="one line of text or one JSON object for each event"
    )

    server: str = _of_client("SERVER", "127.0.0.1:50051", "the server's host:port")
    credential: SecretStr = _of_client(
        "CREDENTIAL",
        SecretStr(""),
        "a key of the server with the role verify, and watch for webhooks",
    )
    ca: Path | None = _of_client("CA", None, "PEM file of the roots that the server's TLS is of")
    client_certificate: Path | None = _of_client(
        "CLIENT_CERTIFICATE", None, "PEM file of the gateway's certificate, for mutual TLS"
    )
    client_key: Path | None = _of_client("CLIENT_KEY", None, "PEM file of its key")
    server_name: str | None = _of_client(
        "SERVER_NAME", None, "the name in the server's certificate, if it is not its address"
    )
    tls: bool = _of_client("TLS", False, "use TLS, with the roots that come with gRPC")
    client_insecure: bool = _of_client(
        "INSECURE", False, "send the credential to another machine in plaintext"
    )

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Read the environment, then apply overrides that are not None; raises `SettingsError`,
        which names the variable."""
        _check_names()
        values = {name: value for name, value in overrides.items() if value is not None}
        try:
            settings = cls(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (
                f"{_to_variable(str(problem['loc'][0]))}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise SettingsError("; ".join(problems)) from error
        settings.check()
        return settings

    @property
    def limits(self) -> CallLimits:
        names = CallLimits.__dataclass_fields__
        return CallLimits(**{name: getattr(self, name) for name in names})

    @property
    def has_tls(self) -> bool:
        return self.tls_certificate is not None

    def check(self) -> None:
        """Raise `SettingsError` for settings that contradict each other or leave a door open."""
        if not any(getattr(self, switch) for switch in _SWITCHES):
            names = ", ".join(PREFIX + name.upper() for name in _SWITCHES)
            raise SettingsError(f"no platform is switched on; set one of {names}")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError(
                f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY go together; give both"
            )
        if not (self.has_tls or self.insecure or is_loopback(self.listen)):
            raise SettingsError(
                f"calls would come to {self.listen} in plaintext; use TLS "
                f"({PREFIX}TLS_CERTIFICATE), or, behind a proxy that does it, allow it "
                f"({PREFIX}INSECURE=true)"
            )
        self._check_forks()
        if self.siprec_tls_listen and not self.has_tls:
            raise SettingsError(
                f"{PREFIX}SIPREC_TLS_LISTEN: give the certificate too, {PREFIX}TLS_CERTIFICATE"
            )
        if self.siprec_listen or self.siprec_tls_listen:
            self.read_media_ports()
        if self.webhooks and not self.state:
            raise SettingsError(
                f"{PREFIX}STATE: name the file in which events wait for the endpoints of "
                f"{PREFIX}WEBHOOKS, e.g. /var/lib/sayso/gateway.db"
            )
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            raise SettingsError(
                f"{PREFIX}OIDC_ISSUER and {PREFIX}OIDC_CLIENT_ID go together; give both"
            )
        if self.oidc_issuer and not _is_issuer(self.oidc_issuer):
            raise SettingsError(
                f"{PREFIX}OIDC_ISSUER: must be an https:// address without a query, or http:// of "
                "this machine"
            )
        if self.twilio_auth_tokens and not self.public_url.startswith(("wss://", "ws://")):
            raise SettingsError(
                f"{PREFIX}PUBLIC_URL: must be the wss:// address that Twilio reaches, as it signs "
                "that"
            )

    def _check_forks(self) -> None:
        if bool(self.forks_listen) != bool(self.webex_url or self.five9_tokens):
            raise SettingsError(
                f"{PREFIX}FORKS_LISTEN goes with {PREFIX}WEBEX_URL, {PREFIX}FIVE9_TOKENS or both: "
                "give the address and the platform"
            )
        if self.forks_listen is None:
            return
        if not (self.has_tls or self.insecure or is_loopback(self.forks_listen)):
            raise SettingsError(
                f"calls would come to {self.forks_listen} in plaintext; use TLS "
                f"({PREFIX}TLS_CERTIFICATE), or, behind a proxy that does it, allow it "
                f"({PREFIX}INSECURE=true)"
            )
        if self.webex_url:
            self.read_webex_issuers()

    def read_webex_issuers(self) -> tuple[str, ...]:
        """The issuers of Webex's tokens; raises `SettingsError`."""
        issuers = tuple(issuer.strip() for issuer in self.webex_issuers.split(","))
        for issuer in issuers:
            url = urlsplit(issuer)
            local = url.scheme == "http" and is_loopback(f"{url.hostname}:0")
            if not url.hostname or not (url.scheme == "https" or local):
                raise SettingsError(f"{PREFIX}WEBEX_ISSUERS: {issuer!r} is no https:// address")
        return issuers

    def read_media_ports(self) -> range:
        """The ports of SIPREC's audio; raises `SettingsError`."""
        first, _, last = self.siprec_media_ports.partition("-")
        if first.isdecimal() and last.isdecimal() and 1024 <= int(first) < int(last) <= 65535:
            return range(int(first), int(last) + 1)
        raise SettingsError(
            f"{PREFIX}SIPREC_MEDIA_PORTS: {self.siprec_media_ports!r} is no range of ports, such "
            "as 20000-29999"
        )

    def open_client(self, credential: str | None) -> AsyncClient:
        """A client that shows this credential, or the gateway's own if it is None."""
        shown = self.credential.get_secret_value() if credential is None else credential
        return AsyncClient(
            self.server,
            credential=shown or None,
            tls=self.make_tls(),
            insecure=self.client_insecure,
        )

    def open_channel(self) -> tuple[Any, tuple[tuple[str, str], ...]]:
        """A channel of gRPC for asyncio, with the metadata that shows the gateway's credential."""
        shown = self.credential.get_secret_value() or None
        target = Target(self.server, shown, self.make_tls(), self.client_insecure)
        return target.open(grpc.aio), target.metadata

    def make_tls(self) -> Tls | None:
        """The TLS of channels to the server; None is plaintext."""
        if not (self.tls or self.ca or self.client_certificate or self.client_key):
            return None
        return Tls(self.ca, self.client_certificate, self.client_key, self.server_name)


def list_variables() -> set[str]:
    """The environment variables that are the gateway's own."""
    fields = Settings.model_fields.items()
    return {PREFIX + name.upper() for name, field in fields if field.validation_alias is None}


def parse_address(address: str) -> tuple[str, int]:
    """Parse host:port; raises `SettingsError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether host:port is of this machine alone; raises `SettingsError`."""
    host, _ = parse_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_issuer(url: str) -> bool:
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[^\s?#;,'\"]*)?", url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(f"{parts.hostname}:0")


def _to_variable(name: str) -> str:
    return name if name.startswith("SAYSO_") else PREFIX + name.upper()


def _check_names() -> None:
    """Raise `SettingsError` for variables that are unknown, or that a template left empty."""
    known = list_variables()
    for variable, value in sorted(os.environ.items()):
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            near = get_close_matches(variable, known, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "unset it"
            raise SettingsError(f"{variable} is no setting; {hint}")
        if not value:
            raise SettingsError(f"{variable} is empty; give it a value, or unset it")
