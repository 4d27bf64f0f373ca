"""Pseudonyms, and the key that they depend on."""

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.audit.subjects import Subjects
from service.errors import SettingsError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "audit.key"


def test_a_pseudonym_is_the_hmac_of_tenant_and_speaker(key: Path) -> None:
    subjects = Subjects.open(key)
    secret = bytes.fromhex(key.read_text())
    expected = hmac.new(secret, b'["t", "alice"]', hashlib.sha256).hexdigest()
    assert subjects.make_pseudonym("t", "alice") == expected
    assert subjects.make_pseudonym("t", "") == ""


def test_tenants_and_speakers_are_told_apart(key: Path) -> None:
    subjects = Subjects.open(key)
    names = [("t", "alice"), ("u", "alice"), ("t", "bob"), ("t2", "3"), ("t", "23")]
    assert len({subjects.make_pseudonym(*name) for name in names}) == len(names)


def test_the_key_is_made_once_and_only_for_the_owner(key: Path) -> None:
    assert Subjects.open(key) == Subjects.open(key) == Subjects.read(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == [key.name]


def test_all_who_make_it_at_once_have_the_same(key: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Subjects.open(key), range(32)))
    assert len({each.key for each in made}) == 1


def test_another_key_gives_other_pseudonyms(tmp_path: Path) -> None:
    one, other = (Subjects.open(tmp_path / name) for name in ("one.key", "other.key"))
    assert one.make_pseudonym("t", "alice") != other.make_pseudonym("t", "alice")


@pytest.mark.parametrize("text", ["", "00", "not hexadecimal", "00" * 33])
def test_a_malformed_key(key: Path, text: str) -> None:
    key.write_text(text)
    key.chmod(0o600)
    with pytest.raises(SettingsError, match="audit key"):
        Subjects.open(key)


def test_a_key_that_others_may_read(key: Path) -> None:
    Subjects.open(key)
    key.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        Subjects.open(key)


def test_no_key(key: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Subjects.read(key)
    with pytest.raises(SettingsError, match="cannot be made"):
        Subjects.open(key.parent / "nowhere" / "audit.key")


def test_the_key_is_not_shown(key: Path) -> None:
    subjects = Subjects.open(key)
    assert subjects.key.hex() not in repr(subjects)
