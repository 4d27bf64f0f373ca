"""Master keys on this machine: every version unwraps, the last one wraps."""

import os
from pathlib import Path

import pytest

from service.errors import SettingsError, Unavailable
from service.sealing import LocalMaster
from tests.support.master_keys import Clock, new_key

DATA_KEY = bytes(range(32))
NOT_ROOT = 65534


def key_file(path: Path, *keys: str) -> Path:
    path.write_text("".join(f"{key}\n" for key in keys))
    path.chmod(0o600)
    return path


async def test_wrapped_keys_differ_and_unwrap() -> None:
    master = LocalMaster.from_text(new_key())
    wrapped = [await master.wrap(DATA_KEY, b"t") for _ in range(2)]
    assert wrapped[0] != wrapped[1]
    assert DATA_KEY not in wrapped[0]
    assert [await master.unwrap(each, b"t") for each in wrapped] == [DATA_KEY, DATA_KEY]


async def test_another_context_does_not_unwrap() -> None:
    master = LocalMaster.from_text(new_key())
    wrapped = await master.wrap(DATA_KEY, b"tenant a")
    with pytest.raises(Unavailable, match="another tenant's"):
        await master.unwrap(wrapped, b"tenant b")


@pytest.mark.parametrize("at", [0, 6, 13, 14, 25, 26, 57, 58, -1])
async def test_a_changed_byte_does_not_unwrap(at: int) -> None:
    master = LocalMaster.from_text(new_key())
    wrapped = bytearray(await master.wrap(DATA_KEY, b"t"))
    wrapped[at] ^= 1
    with pytest.raises(Unavailable):
        await master.unwrap(bytes(wrapped), b"t")


async def test_torn_keys_do_not_unwrap() -> None:
    master = LocalMaster.from_text(new_key())
    wrapped = await master.wrap(DATA_KEY, b"t")
    for length in range(len(wrapped)):
        with pytest.raises(Unavailable):
            await master.unwrap(wrapped[:length], b"t")


async def test_rotation_without_a_moment_that_cannot_unwrap() -> None:
    old, new = new_key(), new_key()
    before, both = LocalMaster.from_text(old), LocalMaster.from_text(f"{old} {new}")
    wrapped = await before.wrap(DATA_KEY, b"t")
    assert await both.unwrap(wrapped, b"t") == DATA_KEY
    renewed = await both.rewrap(wrapped, b"t")
    after = LocalMaster.from_text(new)
    assert await after.unwrap(renewed, b"t") == DATA_KEY
    with pytest.raises(Unavailable, match="put it back"):
        await after.unwrap(wrapped, b"t")


async def test_a_key_added_to_the_file_counts_without_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    old, new = new_key(), new_key()
    path = key_file(tmp_path / "master.key", old)
    running = LocalMaster.from_file(path, clock=clock)
    wrapped = await running.wrap(DATA_KEY, b"t")
    key_file(path, old, new)
    clock.now_s += 60.0
    assert await LocalMaster.from_text(new).unwrap(await running.wrap(DATA_KEY, b"t"), b"t")
    assert await running.unwrap(wrapped, b"t") == DATA_KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path / "master.key", new_key())
    if os.geteuid() == 0:
        os.chown(path, NOT_ROOT, -1)
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        LocalMaster.from_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of root's")
@pytest.mark.parametrize(("mode", "accepted"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_group_may_read_what_root_lets_it(tmp_path: Path, mode: int, accepted: bool) -> None:
    """As Kubernetes mounts a Secret for a pod with a group of its own."""
    path = key_file(tmp_path / "master.key", new_key())
    path.chmod(mode)
    if accepted:
        LocalMaster.from_file(path)
    else:
        with pytest.raises(SettingsError, match="chmod 600"):
            LocalMaster.from_file(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"master\.key cannot be read"):
        LocalMaster.from_file(tmp_path / "master.key")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "c2hvcnQ=", "not base64!", new_key()[:-5]],
    ids=["empty", "blank", "short", "text", "cut"],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match="openssl rand -base64 32") as refused:
        LocalMaster.from_text(text)
    assert not text.strip() or text not in str(refused.value)
