"""The token that Webex shows for a data source: a JWS, signed by Webex's identity broker.

    algorithm ─> allowed issuer ─> its keys ─> signature ─> expiry ─> our URL ─> the schema

The issuer is compared before anything is fetched: a token chooses no address that we ask for keys.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp
import jwt
from jwt.utils import base64url_decode

from gateway.connectors.media_forking.rpcs import Unauthenticated
from gateway.documents import parse_json, require_shallow

SCHEMA_ID = "523e1b7f-4693-47bc-b84e-a7b7a505fb0b"
"""Webex's id of the schema of media forking."""

_URL_CLAIM = "com.cisco.datasource.url"
_SCHEMA_CLAIM = "com.cisco.datasource.schema.uuid"
_KEYS_PATH = "/oauth2/v2/keys/verificationjwk"
_MAX_KEYS_BYTES = 256 * 1024
_KEYS_S = 3600.0
_RETRY_S = 30.0
_FETCH_S = 5.0

FetchKeys = Callable[[str], Awaitable[dict[str, Any]]]
"""Get the keys of an issuer, by their id; raises `Unauthenticated` if they cannot be had."""


class KeyRing:
    """The keys of the allowed issuers, fetched when they are needed and not more often than every
    `retry_s`, whatever is shown."""

    def __init__(
        self,
        fetch: FetchKeys,
        *,
        retry_s: float = _RETRY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._retry_s = retry_s
        self._now_s = now_s
        self._keys: dict[str, dict[str, Any]] = {}
        self._fetched_s: dict[str, float] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find(self, issuer: str, key_id: str) -> Any:
        """The key of an issuer that is allowed; raises `Unauthenticated`. An issuer that answers
        slowly keeps the tokens of no other waiting."""
        async with self._locks[issuer]:
            age_s = self._now_s() - self._fetched_s.get(issuer, float("-inf"))
            known = key_id in self._keys.get(issuer, {})
            if age_s > (_KEYS_S if known else self._retry_s):
                self._fetched_s[issuer] = self._now_s()
                self._keys[issuer] = await self._fetch(issuer)
        if (key := self._keys.get(issuer, {}).get(key_id)) is None:
            raise Unauthenticated(f"{issuer} has no such key, or its keys could not be fetched")
        return key


class WebexTokens:
    """Checks tokens for the data source that was registered with `url`."""

    def __init__(self, url: str, issuers: Iterable[str], keys: KeyRing) -> None:
        self._url = url
        self._issuers = frozenset(issuers)
        self._keys = keys

    async def check(self, token: str) -> None:
        """Raises `Unauthenticated`, which says what is wrong with the token."""
        issuer, key_id = self._read_issuer(token)
        key = await self._keys.find(issuer, key_id)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=issuer,
                options={"require": ["exp", "iss"], "verify_aud": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(f"the token is not valid: {error}") from None
        if claims.get(_URL_CLAIM) != self._url:
            raise Unauthenticated("the token is for the data source of another URL")
        if claims.get(_SCHEMA_CLAIM) != SCHEMA_ID:
            raise Unauthenticated("the token is for another schema than that of media forking")

    def _read_issuer(self, token: str) -> tuple[str, str]:
        try:
            for part in token.split(".")[:2]:
                require_shallow(base64url_decode(part))
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthenticated("the token is no JWS") from None
        if header.get("alg") != "RS256":
            raise Unauthenticated("the token is not signed by RS256")
        issuer, key_id = claims.get("iss"), header.get("kid")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise Unauthenticated("the issuer of the token is none of those that are allowed")
        if not isinstance(key_id, str):
            raise Unauthenticated("the token names no key")
        return issuer, key_id


async def fetch_keys(issuer: str) -> dict[str, Any]:
    """Get the keys of an issuer that is allowed; follows no redirect, uses no proxy."""
    timeout = aiohttp.ClientTimeout(total=_FETCH_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(issuer + _KEYS_PATH, allow_redirects=False) as response,
        ):
            body = await response.content.read(_MAX_KEYS_BYTES)
            while len(body) < _MAX_KEYS_BYTES and (more := await response.content.read(65536)):
                body += more
        if response.status != 200:
            raise Unauthenticated(f"the keys of {issuer} cannot be had: HTTP {response.status}")
        return parse_keys(body)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        name = type(error).__name__
        raise Unauthenticated(f"the keys of {issuer} cannot be had: {name}: {error}") from error


def parse_keys(body: bytes) -> dict[str, Any]:
    """The RSA keys of a JWK set, by their id; raises `Unauthenticated`."""
    try:
        document = parse_json(body)
        found = jwt.PyJWKSet.from_dict(document).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        raise Unauthenticated("the issuer's keys are no JWK set") from None
    return {key.key_id: key.key for key in found if key.key_id and key.key_type == "RSA"}
