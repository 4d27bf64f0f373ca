import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.access import Caller, Keys, Role, key_file
from service.access.certificates import CertificateName, NameKind
from service.access.grants import ApiKey, ClientCertificate, Grants
from service.access.keys import make_key, rotate_key
from service.errors import FailedPrecondition, NotFound, SettingsError, Unauthenticated

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def made(tenant: str = "bank", *roles: Role, expires: datetime | None = None) -> tuple[str, ApiKey]:
    return make_key(tenant, roles or [Role.VERIFY], now=NOW, expires=expires)


def keys(path: Path, *entries: ApiKey | ClientCertificate, now: datetime = NOW) -> Keys:
    key_file.change(path / "keys.json", lambda grants: (grants.replace(*entries), None))
    return Keys(path / "keys.json", now=lambda: now)


def dns(name: str) -> CertificateName:
    return CertificateName(NameKind.DNS, name)


def uri(name: str) -> CertificateName:
    return CertificateName(NameKind.URI, name)


def certificate(name: str, tenant: str, **changed: Any) -> ClientCertificate:
    whole: dict[str, Any] = {
        "id": f"{name} of {tenant}",
        "tenant": tenant,
        "roles": frozenset({Role.VERIFY}),
        "created": NOW,
        "name": name,
    }
    return ClientCertificate(**{**whole, **changed})


def test_a_tenant_has_several_keys_and_each_its_roles(tmp_path: Path) -> None:
    (first, one), (second, two) = made("bank"), made("bank", Role.ENROLL, Role.ADMIN)
    (third, three) = made("shop")
    known = keys(tmp_path, one, two, three)
    assert known.authenticate_key(first) == Caller(
        "bank", frozenset({Role.VERIFY}), f"key:{one.id}"
    )
    assert known.authenticate_key(second).roles == {Role.ENROLL, Role.ADMIN}
    assert known.authenticate_key(third).tenant == "shop"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda key: key.replace(key.split("_")[1], "0" * 16),
        lambda key: key.rpartition("_")[0],
        lambda key: "sayso_",
        lambda key: "sayso_nobody_" + "0" * 64,
        lambda key: f"sayso_{key.split('_')[1]}_ü",
    ],
)
def test_nothing_but_the_key_itself_is_the_key(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    key, entry = made()
    known = keys(tmp_path, entry)
    with pytest.raises(Unauthenticated) as caught:
        known.authenticate_key(change(key))
    assert key.rpartition("_")[2][:8] not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_whatever_is_sent_is_no_key(tmp_path: Path, text: str) -> None:
    _, entry = made()
    known = keys(tmp_path, entry)
    for shown in (text, f"sayso_{text}", f"sayso_{entry.id}_{text}"):
        with pytest.raises(Unauthenticated):
            known.authenticate_key(shown)


def test_the_stored_hash_is_no_key(tmp_path: Path) -> None:
    _, entry = made()
    with pytest.raises(Unauthenticated):
        keys(tmp_path, entry).authenticate_key(f"sayso_{entry.id}_{entry.sha256}")


def test_secrets_are_compared_in_constant_time_also_for_unknown_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, entry = made()
    known = keys(tmp_path, entry)
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def spy(left: str, right: str) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    for key_id in (entry.id, "unknown"):
        with pytest.raises(Unauthenticated):
            known.authenticate_key(f"sayso_{key_id}_wrong")
    assert [len(left) == len(right) == 64 for left, right in compared] == [True, True]


def test_a_key_ends_when_it_expires_or_is_revoked(tmp_path: Path) -> None:
    (expired, one), (revoked, two) = made(expires=NOW + DAY), made()
    two = two.model_copy(update={"revoked": NOW})
    early = keys(tmp_path, one, two, now=NOW + DAY - timedelta(seconds=1))
    assert early.authenticate_key(expired).tenant == "bank"
    with pytest.raises(Unauthenticated, match="expired"):
        keys(tmp_path, now=NOW + DAY).authenticate_key(expired)
    with pytest.raises(Unauthenticated, match="revoked"):
        early.authenticate_key(revoked)


def test_whether_a_key_was_revoked_is_told_to_its_holder_only(tmp_path: Path) -> None:
    _, entry = made()
    known = keys(tmp_path, entry.model_copy(update={"revoked": NOW}))
    with pytest.raises(Unauthenticated, match="no such"):
        known.authenticate_key(f"sayso_{entry.id}_wrong")


def test_a_missing_file_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        Keys(tmp_path / "keys.json", now=lambda: NOW).load()


def test_a_certificate_is_known_by_any_of_its_names(tmp_path: Path) -> None:
    known = keys(tmp_path, certificate("spiffe://bank/ivr", "bank"))
    caller = known.authenticate_certificate([dns("ivr.bank.example"), uri("spiffe://bank/ivr")])
    assert caller == Caller("bank", frozenset({Role.VERIFY}), "certificate:spiffe://bank/ivr")
    with pytest.raises(Unauthenticated, match="nobody"):
        known.authenticate_certificate([uri("spiffe://bank/ivr2")])


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("spiffe://bank/ivr", {"uri"}),
        ("urn:uuid:7", {"uri"}),
        ("ivr@bank.example", {"email"}),
        ("10.0.0.7", {"ip"}),
        ("fe80::1", {"ip"}),
        ("ivr.bank.example", {"dns", "common-name"}),
    ],
)
def test_a_name_counts_only_in_its_kind(name: str, kinds: set[str], tmp_path: Path) -> None:
    known = keys(tmp_path, certificate(name, "bank"))
    for kind in NameKind:
        shown = [CertificateName(kind, name)]
        if kind.value in kinds:
            assert known.authenticate_certificate(shown).tenant == "bank"
        else:
            with pytest.raises(Unauthenticated, match="nobody"):
                known.authenticate_certificate(shown)


def test_an_entry_may_say_of_what_kind_it_is(tmp_path: Path) -> None:
    known = keys(tmp_path, certificate("ivr", "bank", kind="common-name"))
    assert (
        known.authenticate_certificate([CertificateName(NameKind.COMMON_NAME, "ivr")]).tenant
        == "bank"
    )
    with pytest.raises(Unauthenticated, match="nobody"):
        known.authenticate_certificate([dns("ivr")])


def test_an_ended_or_ambiguous_certificate_is_nobodys(tmp_path: Path) -> None:
    known = keys(
        tmp_path,
        certificate("old", "bank", expires=NOW),
        certificate("one", "bank"),
        certificate("two", "shop"),
    )
    with pytest.raises(Unauthenticated, match="nobody"):
        known.authenticate_certificate([dns("old")])
    with pytest.raises(Unauthenticated, match="more than one"):
        known.authenticate_certificate([dns("one"), dns("two")])


def test_rotation_keeps_the_old_key_for_the_grace_time(tmp_path: Path) -> None:
    old, entry = made("bank", Role.ENROLL, expires=NOW + 30 * DAY)
    later = NOW + 10 * DAY
    new, *both = rotate_key(Grants(keys=(entry,)), entry.id, now=later, grace=DAY, expires=None)
    during = keys(tmp_path, *both, now=later)
    assert during.authenticate_key(old).roles == during.authenticate_key(new).roles == {Role.ENROLL}
    after = keys(tmp_path, now=later + DAY)
    with pytest.raises(Unauthenticated, match="expired"):
        after.authenticate_key(old)
    assert after.authenticate_key(new).tenant == "bank"
    assert both[0].expires == later + 30 * DAY


def test_rotation_never_prolongs_a_key() -> None:
    _, entry = made(expires=NOW + DAY)
    _, *both = rotate_key(
        Grants(keys=(entry,)), entry.id, now=NOW, grace=30 * DAY, expires=NOW + 90 * DAY
    )
    assert [each.expires for each in both] == [NOW + 90 * DAY, NOW + DAY]


def test_only_a_valid_key_can_be_rotated() -> None:
    _, entry = made()
    ended = entry.model_copy(update={"revoked": NOW})
    for grants in (Grants(keys=(ended,)), Grants(certificates=(certificate("x", "bank"),))):
        with pytest.raises(FailedPrecondition):
            rotate_key(grants, grants.entries[0].id, now=NOW, grace=DAY, expires=None)
    with pytest.raises(NotFound):
        rotate_key(Grants(), "nobody", now=NOW, grace=DAY, expires=None)
