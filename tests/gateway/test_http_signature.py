"""Signatures of AudioHook: its documentation's own example, and what is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connectors.http_signature import COVERED, InvalidSignature, Verifier, decode_secret
from tests.support.audiohook_client import API_KEY, CLIENT_SECRET, sign

CREATED = 1641013200.0
EXAMPLE = {
    "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": API_KEY,
    "signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    "signature-input": (
        'sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
        '"audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";'
        'nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430'
    ),
}
TARGET, AUTHORITY = "/api/v1/voicebiometrics/ws", "audiohook.example.com"


def verify(headers: dict[str, str], *, at: float = CREATED, secret: str = CLIENT_SECRET) -> None:
    verifier = Verifier({API_KEY: decode_secret(secret)}, clock=lambda: at)
    verifier.verify(headers, target=TARGET, authority=AUTHORITY)


def test_the_documentations_example_is_valid() -> None:
    verify(EXAMPLE)
    verify(EXAMPLE, at=CREATED + 9.0)


@pytest.mark.parametrize("name", sorted(EXAMPLE))
def test_every_field_is_needed_as_it_is(name: str) -> None:
    with pytest.raises(InvalidSignature):
        verify({key: value for key, value in EXAMPLE.items() if key != name})
    with pytest.raises(InvalidSignature):
        verify(EXAMPLE | {name: EXAMPLE[name].swapcase()})


@pytest.mark.parametrize("at", [CREATED - 4.0, CREATED + 14.0])
def test_an_old_signature_is_refused(at: float) -> None:
    with pytest.raises(InvalidSignature, match="too long ago"):
        verify(EXAMPLE, at=at)


def test_another_secret_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="not by its secret"):
        verify(EXAMPLE, secret="AAAA")


def test_a_request_is_good_once() -> None:
    verifier = Verifier({API_KEY: decode_secret(CLIENT_SECRET)}, clock=lambda: CREATED)
    verifier.verify(EXAMPLE, target=TARGET, authority=AUTHORITY)
    with pytest.raises(InvalidSignature, match="used before"):
        verifier.verify(EXAMPLE, target=TARGET, authority=AUTHORITY)


def sign_example(**changes: object) -> dict[str, str]:
    arguments = {"target": TARGET, "created": CREATED} | changes
    signed = sign(AUTHORITY, "session", **arguments)  # type: ignore[arg-type]
    return {name.lower(): value for name, value in signed.items()}


def test_what_a_signature_has_to_cover_and_say() -> None:
    verify(sign_example())
    with pytest.raises(InvalidSignature, match="does not cover x-api-key"):
        verify(sign_example(covered=COVERED[:-1]))
    with pytest.raises(InvalidSignature, match="nonce is too short"):
        verify(sign_example(nonce="short"))
    with pytest.raises(InvalidSignature, match="key is unknown"):
        verify(sign_example(key="another"))


@given(st.text(max_size=200), st.text(max_size=60))
def test_anything_else_is_refused(signature_input: str, signature: str) -> None:
    for shown in (signature_input, EXAMPLE["signature-input"] + signature_input):
        if shown.strip() == EXAMPLE["signature-input"] and not signature:
            continue
        with pytest.raises(InvalidSignature):
            verify(EXAMPLE | {"signature-input": shown, "signature": signature})


@pytest.mark.parametrize("secret", ["", "!", "AAA"])
def test_a_secret_is_base64(secret: str) -> None:
    with pytest.raises(ValueError):
        decode_secret(secret)
