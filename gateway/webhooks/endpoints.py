"""The TOML file of endpoints: SAYSO_GATEWAY_WEBHOOKS."""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sayso import EventType, SettingsError

from gateway.secret_file import read_secrets
from gateway.webhooks.addresses import Network
from gateway.webhooks.signatures import Signer, parse_secret

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events of some types are posted to, signed by each of `signers`."""

    name: str
    url: str
    signers: tuple[Signer, ...]
    types: frozenset[str]
    allow: tuple[Network, ...] = ()
    timeout_s: float = 20.0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The whole file: endpoints by name, the `source` of their CloudEvents, how many events may
    wait for each endpoint, and the `files` that all of this was read from."""

    source: str
    max_pending: int
    endpoints: dict[str, Endpoint]
    files: tuple[Path, ...] = ()


class _Endpoint(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: str
    secrets: str
    events: list[str] = list(get_args(EventType))
    allow: list[str] = []
    allow_http: bool = False
    timeout_s: float = Field(20.0, gt=0, le=60)
    disabled: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source: str = Field("/sayso", min_length=1)
    max_pending: int = Field(10_000, ge=1, le=1_000_000)
    endpoints: dict[_Name, _Endpoint] = Field(min_length=1)


def read_webhooks(path: Path) -> Webhooks:
    """Read the file and the secrets that it names; raises `SettingsError`."""
    try:
        read = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the webhooks of {path} cannot be read: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"{path}: {place}: {problem['msg']}") from error
    endpoints = {}
    for name, endpoint in read.endpoints.items():
        try:
            endpoints[name] = _make_endpoint(name, endpoint, path.parent)
        except ValueError as error:
            raise SettingsError(f"{path}: endpoints.{name}: {error}") from error
    secrets = (path.parent / endpoint.secrets for endpoint in read.endpoints.values())
    return Webhooks(read.source, read.max_pending, endpoints, (path, *secrets))


def _make_endpoint(name: str, read: _Endpoint, folder: Path) -> Endpoint:
    _check_url(read.url, allow_http=read.allow_http)
    if unknown := set(read.events) - set(get_args(EventType)):
        raise ValueError(f"events: {min(unknown)} is none of {', '.join(get_args(EventType))}")
    lines = read_secrets(folder / read.secrets, words="secret")
    return Endpoint(
        name=name,
        url=read.url,
        signers=tuple(parse_secret(secret) for (secret,) in lines),
        types=frozenset(read.events),
        allow=tuple(map(ipaddress.ip_network, read.allow)),
        timeout_s=read.timeout_s,
        disabled=read.disabled,
    )


def _check_url(url: str, *, allow_http: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("url: must be https://...")
    if parts.username or parts.password:
        raise ValueError("url: holds a password; whoever receives verifies signatures instead")
    if parts.scheme == "http" and not (allow_http or _is_loopback(parts.hostname)):
        raise ValueError("url: must be https, or set allow_http = true")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
