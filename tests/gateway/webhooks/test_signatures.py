"""Signatures, as Standard Webhooks' own package and another library's Ed25519 read them."""

import base64
import json
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.webhooks.signatures import make_headers, make_key_pair, make_secret, parse_secret

BODY = json.dumps({"type": "dev.sayso.test", "data": {"name": "Jürgen"}}, ensure_ascii=False)


def sign(*secrets: str, at: float | None = None) -> dict[str, str]:
    signers = [parse_secret(secret) for secret in secrets]
    now = time.time() if at is None else at
    return make_headers(signers, "msg_1", BODY.encode(), at=now)


def test_each_of_several_secrets_verifies() -> None:
    old, new = make_secret(), make_secret()
    headers = sign(old, new)
    assert Webhook(old).verify(BODY, headers) == Webhook(new).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret()).verify(BODY, headers)


def test_an_old_timestamp_is_told() -> None:
    secret = make_secret()
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, sign(secret, at=time.time() - 301))


def test_ed25519_verifies_beside_hmac() -> None:
    private, public = make_key_pair()
    secret = make_secret()
    headers = sign(private, secret)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    version, _, signature = headers["webhook-signature"].split()[0].partition(",")
    assert version == "v1a"
    content = f"msg_1.{headers['webhook-timestamp']}.{BODY}".encode()
    key.verify(base64.b64decode(signature), content)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(signature), content + b" ")
    Webhook(secret).verify(BODY, headers)


def test_the_seed_alone_signs_as_the_whole_key() -> None:
    private, _ = make_key_pair()
    seed = base64.b64decode(private.removeprefix("whsk_"))[:32]
    alone = "whsk_" + base64.b64encode(seed).decode()
    assert parse_secret(alone)(b"content") == parse_secret(private)(b"content")


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "24 to 64 bytes"),
        ("whsec_!!!!", "not base64"),
        ("whsk_" + base64.b64encode(bytes(31)).decode(), "32 or 64 bytes"),
        ("whsk_" + base64.b64encode(bytes(64)).decode(), "not its public key"),
        ("whpk_" + base64.b64encode(bytes(32)).decode(), "begins with"),
    ],
)
def test_secrets_that_cannot_be(secret: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_secret(secret)
    assert secret not in str(caught.value)
