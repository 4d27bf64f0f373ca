import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from service.access import Caller, Role, TokenRules, Tokens
from service.errors import SettingsError, Unauthenticated

EXPECTED = TokenRules(issuer="https://login.bank.example", audience="sayso", leeway_s=30)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PUBLIC = EC_KEY.public_key()

Jwk = dict[str, Any]


def public_keys() -> list[Jwk]:
    return [
        {**ECAlgorithm.to_jwk(PUBLIC, as_dict=True), "kid": "ec"},
        {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa", "use": "sig"},
        {**OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "kid": "ed"},
    ]


def write(path: Path, keys: list[Jwk]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(write(tmp_path / "jwks.json", public_keys()), EXPECTED)


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; a claim that is None is left out, and a timedelta is from now."""
    now = datetime.now(UTC)
    changed = {
        name: now + value if isinstance(value, timedelta) else value
        for name, value in changed.items()
    }
    whole = {
        "iss": EXPECTED.issuer,
        "aud": EXPECTED.audience,
        "sub": "ivr-7",
        "iat": now,
        "exp": now + timedelta(minutes=5),
        "tenant": "bank",
        "roles": ["verify"],
    }
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def signed(
    said: dict[str, Any], key: Any = EC_KEY, algorithm: str = "ES256", kid: str | None = "ec"
) -> str:
    return jwt.encode(said, key, algorithm, headers={"kid": kid} if kid else {})


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(EC_KEY, "ES256", "ec"), (RSA_KEY, "RS256", "rsa"), (ED_KEY, "EdDSA", "ed")],
)
def test_a_good_token(tokens: Tokens, key: Any, algorithm: str, kid: str) -> None:
    caller = tokens.authenticate(signed(claims(), key, algorithm, kid))
    assert caller == Caller("bank", frozenset({Role.VERIFY}), "token:ivr-7")


@pytest.mark.parametrize("name", ["exp", "iss", "aud", "sub", "tenant"])
def test_a_claim_is_missing(tokens: Tokens, name: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.authenticate(signed(claims(**{name: None})))


def ago(seconds: float) -> timedelta:
    """To be added to the time at which the token is made."""
    return timedelta(seconds=-seconds)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"exp": ago(40)}, "expired"),
        ({"nbf": ago(-40)}, "not valid yet"),
        ({"aud": "another"}, "another audience"),
        ({"aud": ["another", "third"]}, "another audience"),
        ({"iss": "https://login.bank.example.evil.example"}, "another issuer"),
        ({"tenant": "../other"}, "claim tenant"),
        ({"tenant": ["bank"]}, "claim tenant"),
    ],
)
def test_a_claim_is_wrong(tokens: Tokens, changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(Unauthenticated, match=fault):
        tokens.authenticate(signed(claims(**changed)))


@pytest.mark.parametrize("changed", [{"exp": ago(20)}, {"nbf": ago(-20)}, {"iat": ago(-20)}])
def test_clocks_may_differ_by_the_leeway(tokens: Tokens, changed: dict[str, Any]) -> None:
    assert tokens.authenticate(signed(claims(**changed))).tenant == "bank"


def public_pem() -> bytes:
    return PUBLIC.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def hmac_with_the_public_key() -> str:
    """The confusion of RFC 8725, 2.1, which PyJWT refuses to sign and an attacker does not."""
    head = base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"ec"}').decode()
    text = f"{head}.{signed(claims()).split('.')[1]}"
    mac = hmac.digest(public_pem(), text.encode(), "sha256")
    return f"{text}.{base64url_encode(mac).decode()}"


def tampered() -> str:
    """Another tenant under the signature of a good token."""
    head, _, signature = signed(claims()).split(".")
    return ".".join((head, signed(claims(tenant="other")).split(".")[1], signature))


@pytest.mark.parametrize(
    "forge",
    [
        hmac_with_the_public_key,
        tampered,
        lambda: jwt.encode(claims(), "", "none", headers={"kid": "ec"}),
        lambda: signed(claims(), ec.generate_private_key(ec.SECP256R1())),
        lambda: signed(claims(), RSA_KEY, "RS256", kid="ec"),
        lambda: signed(claims(), kid="unknown"),
        lambda: signed(claims(), kid=None),
        lambda: "a.b.c",
        lambda: "",
    ],
)
def test_forgeries(tokens: Tokens, forge: Callable[[], str]) -> None:
    token = forge()
    with pytest.raises(Unauthenticated) as caught:
        tokens.authenticate(token)
    assert "eyJ" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["ES256", "none", "HS256"]) | JSON,
        "kid": st.sampled_from(["ec", "rsa"]) | JSON,
        "b64": JSON,
        "crit": JSON,
        "jwk": JSON,
        "typ": JSON,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=HEADERS | JSON, payload=JSON, signature=st.binary())
def test_whatever_is_sent_is_refused_in_the_same_way(
    tokens: Tokens, header: Any, payload: Any, signature: bytes
) -> None:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    for token in (b".".join(map(base64url_encode, parts)).decode(), json.dumps(payload)):
        with pytest.raises(Unauthenticated):
            tokens.authenticate(token)


@pytest.mark.parametrize("header", [b"[" * 3000, b'{"kid":' * 3000, b'{"kid": "' + b"k" * 3000])
def test_a_header_that_nests_or_never_ends(tokens: Tokens, header: bytes) -> None:
    token = b".".join(map(base64url_encode, (header, b"{}", b""))).decode()
    with pytest.raises(Unauthenticated, match="cannot be read"):
        tokens.authenticate(token)


def test_a_token_without_a_key_id_is_of_the_only_key(tmp_path: Path) -> None:
    one = Tokens(write(tmp_path / "jwks.json", public_keys()[:1]), EXPECTED)
    assert one.authenticate(signed(claims(), kid=None)).tenant == "bank"


@pytest.mark.parametrize(
    ("claim", "roles"),
    [
        (["verify", "enroll"], {Role.VERIFY, Role.ENROLL}),
        ("enrol", {Role.ENROLL}),
        ("openid admin", {Role.ADMIN}),
        (["openid", 7], set()),
        ("verifying", set()),
        ({"verify": True}, set()),
        (None, set()),
    ],
)
def test_roles(tokens: Tokens, claim: Any, roles: set[Role]) -> None:
    assert tokens.authenticate(signed(claims(roles=claim))).roles == roles


def test_claims_may_have_other_names(tmp_path: Path) -> None:
    expected = TokenRules(
        EXPECTED.issuer,
        EXPECTED.audience,
        tenant_claim="https://bank.example/tenant",
        roles_claim="scope",
    )
    tokens = Tokens(write(tmp_path / "jwks.json", public_keys()), expected)
    said = claims(**{"https://bank.example/tenant": "shop", "scope": "verify enroll"})
    caller = tokens.authenticate(signed(said))
    assert (caller.tenant, caller.roles) == ("shop", {Role.VERIFY, Role.ENROLL})


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"keys": []}),
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec"}]}),
        json.dumps({"keys": [{**public_keys()[1], "use": "enc"}]}),
    ],
)
def test_a_file_without_keys_for_signatures(tmp_path: Path, text: str) -> None:
    (tmp_path / "jwks.json").write_text(text)
    with pytest.raises(SettingsError, match=r"jwks\.json"):
        Tokens(tmp_path / "jwks.json", EXPECTED).load()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        Tokens(tmp_path / "jwks.json", EXPECTED).load()


def test_keys_of_the_issuer_are_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "jwks.json", public_keys()[:1])
    tokens = Tokens(path, EXPECTED, look_every_s=0)
    new = signed(claims(), RSA_KEY, "RS256", "rsa")
    with pytest.raises(Unauthenticated, match="names no key"):
        tokens.authenticate(new)
    write(path, public_keys()[1:])
    assert tokens.authenticate(new).tenant == "bank"
    with pytest.raises(Unauthenticated, match="names no key"):
        tokens.authenticate(signed(claims()))
