"""AWS Signature Version 4 of a request to `/`, checked against secrets of the operator's own."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from starlette.datastructures import Headers

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    _ALGORITHM + r" Credential=([\w+=,.@-]{1,128})/(\d{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})"
    r"/aws4_request,\s*SignedHeaders=([a-z0-9;-]{1,1024}),\s*Signature=([0-9a-f]{64})",
    re.ASCII,
)
_REQUIRED = ("host", "x-amz-date", "x-amz-target")
_MAX_SKEW = timedelta(minutes=15)


class SignatureRefused(Exception):
    """`code` is the name of the error, as AWS has it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def verify(
    headers: Headers,
    body: bytes,
    secrets: Mapping[str, str],
    *,
    service: str,
    hosts: Iterable[str],
    now: datetime,
) -> str:
    """The access key id that signed a POST to `/`, addressed to any of `hosts`.

    The host, the date and the operation must be signed. Raises `SignatureRefused`.
    """
    if not (authorization := headers.get("authorization", "")):
        raise SignatureRefused("MissingAuthenticationTokenException", "the request is not signed")
    match = _AUTHORIZATION.fullmatch(authorization)
    signed = match[5].split(";") if match else []
    if match is None or not set(_REQUIRED) <= set(signed):
        raise SignatureRefused(
            "IncompleteSignatureException",
            f"sign with {_ALGORITHM} at least the headers {', '.join(_REQUIRED)}",
        )
    key_id, day, region, of_service, _, signature = match.groups()
    if of_service != service:
        raise SignatureRefused(
            "InvalidSignatureException", f"the signature is for {of_service!r}, not {service!r}"
        )
    time = _check_time(headers.get("x-amz-date", ""), day, now)
    scope = f"{day}/{region}/{service}/aws4_request"
    key = _derive_key(secrets.get(key_id, ""), day, region, service)
    right = False
    for host in hosts:
        request = _format_request(headers, signed, host, body)
        text = "\n".join((_ALGORITHM, time, scope, hashlib.sha256(request).hexdigest()))
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        right |= hmac.compare_digest(expected, signature)
    if key_id not in secrets:
        raise SignatureRefused("UnrecognizedClientException", "there is no such access key id")
    if not right:
        raise SignatureRefused(
            "InvalidSignatureException",
            "the signature does not match; see the secret access key, and that no proxy changes "
            "Host",
        )
    return key_id


def _check_time(text: str, day: str, now: datetime) -> str:
    try:
        time = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureRefused(
            "IncompleteSignatureException", "X-Amz-Date is not like 20250131T120000Z"
        ) from None
    if not text.startswith(day) or abs(now - time) > _MAX_SKEW:
        raise SignatureRefused(
            "InvalidSignatureException", "the signature is over 15 minutes off; see the clocks"
        )
    return text


def _derive_key(secret: str, *scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _format_request(headers: Headers, signed: list[str], host: str, body: bytes) -> bytes:
    """The canonical form of a request, which is what is signed."""
    values = {name: ",".join(headers.getlist(name)) for name in signed} | {"host": host}
    lines = [f"{name}:{' '.join(values[name].split())}" for name in signed]
    digest = hashlib.sha256(body).hexdigest()
    return "\n".join(("POST", "/", "", *lines, "", ";".join(signed), digest)).encode()
