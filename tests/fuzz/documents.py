"""Documents: a model's contract, the key file, a JWKS, credentials, lines of the audit trail.

A server reads them from files that others may have written, or from a call's metadata.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from service.access import Authenticator, Keys, Role, TokenRules, Tokens
from service.access.certificates import CertificateName, NameKind
from service.access.grants import ClientCertificate, Grants
from service.access.keys import make_key
from service.audit.chain import BrokenChain, verify
from service.audit.entries import START, Action, Event, digest, make_entry
from service.contract import (
    METADATA_KEY,
    Calibration,
    Cohort,
    Contract,
    CountermeasureCalibration,
    CountermeasureContract,
    CountermeasureOperatingPoint,
    ModelContract,
    OperatingPoint,
    ScoreKind,
)
from service.errors import ContractError, SettingsError, Unauthenticated
from tests.fuzz import surgery
from tests.fuzz.harness import Check, Harness, limited, stateless

_AT = datetime(2026, 11, 22, tzinfo=UTC)
_KEY = b"k" * 32
_EXPECTED = TokenRules("issuer", "sayso")
_SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_JWK = json.loads(OKPAlgorithm.to_jwk(_SIGNING.public_key())) | {"kid": "k", "alg": "EdDSA"}
_LAST_SECRET = bytes(range(32)).hex()


def check_contract(data: bytes) -> None:
    """Only `ContractError` is documented; what is read is written and read alike."""
    read = [kind for kind in (Contract, CountermeasureContract) if _is_read(kind, data)]
    assert len(read) <= 1, "one kind of model is taken for another"


def _is_read(kind: type[ModelContract], data: bytes) -> bool:
    try:
        found = kind.from_metadata({METADATA_KEY: data.decode(errors="replace")})
    except ContractError as refused:
        assert refused.message
        return False
    written = found.to_metadata()
    assert kind.from_metadata(written).to_metadata() == written
    return True


def _contract_seeds() -> Iterator[bytes]:
    plain = Contract("m", 16_000, 48_000, 24_000, 8_000, 2)
    points = ((0.1, -1.0), (0.01, 2.0))
    calibration = Calibration(-5.0, {"cosine": 20.0}, points, "made", ScoreKind.AS_NORM)
    full = replace(
        plain,
        short_windows=(16_000, 32_000),
        calibration=calibration,
        operating_point=OperatingPoint(0.01),
        cohort=Cohort(bytes(24), 3, 2, "made"),
        provenance={"data": ["made"]},
    )
    countermeasure = CountermeasureContract(
        "c",
        16_000,
        64_600,
        32_300,
        ("made",),
        CountermeasureCalibration(0.5, -1.0, "made"),
        CountermeasureOperatingPoint(-2.0, 0.01, "made"),
    )
    for contract in (plain, full, countermeasure):
        yield contract.to_metadata()[METADATA_KEY].encode()


@contextmanager
def _reading(check: Callable[[Path, bytes], None], name: str) -> Iterator[Check]:
    """`check` of a file that holds the input."""
    with tempfile.TemporaryDirectory(prefix="sayso-fuzz-") as folder:
        path = Path(folder) / name

        def written(data: bytes) -> None:
            path.write_bytes(data)
            path.chmod(0o600)
            check(path, data)

        yield limited(written)


def _check_keys(path: Path, _: bytes) -> None:
    """Only `SettingsError` is documented, and never repeats a secret from the file."""
    try:
        Keys(path, now=lambda: _AT).load()
    except SettingsError as refused:
        assert _LAST_SECRET not in refused.message


def _check_jwks(path: Path, _: bytes) -> None:
    """Only `SettingsError` is documented; a token of no key in it is refused."""
    tokens = Tokens(path, _EXPECTED)
    try:
        tokens.load()
    except SettingsError as refused:
        assert refused.message
        return
    try:
        tokens.authenticate(_token({}))
    except Unauthenticated as refused:
        assert refused.message


def _check_audit(path: Path, _: bytes) -> None:
    """Only `BrokenChain` is documented."""
    try:
        whole = verify([path])
    except BrokenChain as broken:
        assert broken.path in {path, Path()}
    else:
        assert whole.entries >= 0


def _keys_seeds() -> Iterator[bytes]:
    roles = [Role.VERIFY, Role.ADMIN]
    _, key = make_key("t", roles, now=_AT, expires=_AT + timedelta(days=9))
    certificate = ClientCertificate(
        id="c", tenant="t", roles=frozenset(roles), created=_AT, name="caller"
    )
    yield b"{}"
    for grants in (Grants(keys=(key,)), Grants(keys=(key,), certificates=(certificate,))):
        yield grants.model_dump_json().encode()
    yield json.dumps({"keys": [_LAST_SECRET]}).encode()


def _jwks_seeds() -> Iterator[bytes]:
    rsa = {"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": "u" * 342, "e": "AQAB"}
    curve = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "B" * 43, "kid": "e"}
    yield json.dumps({"keys": [_JWK]}).encode()
    yield json.dumps({"keys": [_JWK, rsa, curve]}).encode()
    yield json.dumps({"keys": [_JWK | {"use": "enc"}, {"kty": "oct", "k": "AAAA"}]}).encode()


def _audit_seeds() -> Iterator[bytes]:
    head, lines = START, []
    for action in (Action.ENROL, Action.VERIFY, Action.DELETE):
        entry = make_entry(Event(action, "DONE", tenant="t", llr=1.5), head, _AT.timestamp(), _KEY)
        head = entry.head
        lines.append(entry.line)
    torn = lines[1][:30] + b"\n"
    after = replace(head, seq=1, digest=digest(torn))
    repair = make_entry(Event(Action.REPAIR, "TORN_LINE"), after, _AT.timestamp(), _KEY).line
    yield b"".join(lines)
    yield lines[0] + torn + repair
    yield lines[0] + lines[2]


def _certificate_name(line: bytes) -> CertificateName:
    """Of `kind value`; what names no kind is a common name."""
    text = line.decode(errors="replace")
    kind, _, value = text.partition(" ")
    if kind in set(NameKind):
        return CertificateName(NameKind(kind), value)
    return CertificateName(NameKind.COMMON_NAME, text)


@contextmanager
def _authenticating() -> Iterator[Check]:
    """Lines of metadata, `name: value`, and after an empty line names on a certificate; only
    `Unauthenticated` is documented."""
    with tempfile.TemporaryDirectory(prefix="sayso-fuzz-") as folder:
        keys, jwks = Path(folder) / "keys.json", Path(folder) / "jwks.json"
        keys.touch(mode=0o600)
        keys.write_bytes(list(_keys_seeds())[2])
        jwks.write_text(json.dumps({"keys": [_JWK]}))
        authenticator = Authenticator(
            keys=Keys(keys, now=lambda: _AT), tokens=Tokens(jwks, _EXPECTED)
        )

        def check(data: bytes) -> None:
            shown, _, names = data.partition(b"\n\n")
            metadata = [
                line.decode(errors="replace").partition(": ") for line in shown.split(b"\n")
            ]
            try:
                caller = authenticator.authenticate(
                    [(name, value) for name, _, value in metadata],
                    [_certificate_name(line) for line in names.splitlines()],
                )
            except Unauthenticated as refused:
                assert refused.message
            else:
                assert caller.tenant == "t"

        yield limited(check)


def _credential_seeds() -> Iterator[bytes]:
    for token in (_token({}), _token({"roles": "verify enrol"}), _token({"tenant": 7})):
        yield f"authorization: Bearer {token}".encode()
    yield b"x-api-key: sayso_0123456789abcdef_" + b"0" * 64
    yield b"authorization: Basic abc\nx-api-key: b"
    yield b"user-agent: x\n\ncaller\nanother"
    yield b"user-agent: x\n\ndns caller\nuri spiffe://t/caller"


def _token(claims: dict[str, object]) -> str:
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    given = {
        "iss": "issuer",
        "aud": "sayso",
        "sub": "s",
        "exp": expires,
        "tenant": "t",
        "roles": [],
    }
    return jwt.encode(given | claims, _SIGNING, algorithm="EdDSA", headers={"kid": "k"})


def _line_changed(data: bytes, chance: Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    at = chance.randrange(len(lines))
    lines[at] = surgery.operated(lines[at], chance) + b"\n"
    return b"".join(lines)


HARNESSES = (
    stateless("contract", check_contract, _contract_seeds, surgery.operated),
    Harness("keys", partial(_reading, _check_keys, "keys.json"), _keys_seeds, surgery.operated),
    Harness("jwks", partial(_reading, _check_jwks, "jwks.json"), _jwks_seeds, surgery.operated),
    Harness("credentials", _authenticating, _credential_seeds),
    Harness("audit", partial(_reading, _check_audit, "audit.jsonl"), _audit_seeds, _line_changed),
)
