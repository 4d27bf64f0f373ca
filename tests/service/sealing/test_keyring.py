"""A tenant's keys over their life, on a table in memory; the real tables are tested with stores."""

import asyncio
import weakref

import pytest

from service.errors import FailedPrecondition, Unavailable
from service.sealing import Keyring, KeySet
from service.sealing.keyring import REREAD_S, UNWRAPPED_S
from tests.support.master_keys import Clock, CountingKms


class Table:
    """`KeyTable` of one tenant, which yields before each answer."""

    def __init__(self) -> None:
        self.keys: dict[int, bytes] = {}
        self.current = 0
        self.reads = 0
        self.speakers = 0

    async def read(self, tenant: str) -> KeySet:
        self.reads += 1
        await asyncio.sleep(0)
        return KeySet(self.current, dict(self.keys))

    async def add(
        self, tenant: str, version: int, wrapped: bytes, *, if_empty: bool = False
    ) -> bool:
        await asyncio.sleep(0)
        if version != self.current + 1 or (if_empty and self.speakers):
            return False
        self.keys[version], self.current = wrapped, version
        return True

    async def replace(self, tenant: str, version: int, wrapped: bytes, *, expected: bytes) -> bool:
        await asyncio.sleep(0)
        if self.keys.get(version) != expected:
            return False
        self.keys[version] = wrapped
        return True

    async def retire(self, tenant: str, *, before: int) -> None:
        self.keys = {version: key for version, key in self.keys.items() if version >= before}

    async def erase(self, tenant: str) -> None:
        self.keys = {}


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def kms() -> CountingKms:
    return CountingKms()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keyring(table: Table, kms: CountingKms, clock: Clock) -> Keyring:
    return Keyring(table, kms, clock=clock)


async def test_reading_makes_no_key(keyring: Keyring, table: Table) -> None:
    assert await keyring.load_keys("t") == {}
    assert table.current == 0


async def test_many_first_writes_on_two_servers_agree_on_one_key(
    table: Table, kms: CountingKms, clock: Clock
) -> None:
    rings = [Keyring(table, kms, clock=clock) for _ in range(2)]
    keys = await asyncio.gather(*(rings[n % 2].load_sealing_key("t") for n in range(20)))
    assert table.current == 1
    wanted = b"as sealed by any of them"
    sealed = keys[0].cipher_for("alice").encrypt(bytes(12), wanted, None)
    assert {key.cipher_for("alice").decrypt(bytes(12), sealed, None) for key in keys} == {wanted}


async def test_many_calls_at_once_unwrap_once(
    keyring: Keyring, table: Table, kms: CountingKms, clock: Clock
) -> None:
    await keyring.load_sealing_key("t")
    other = Keyring(table, kms, clock=clock)
    kms.unwrapped = 0
    await asyncio.gather(*(other.load_keys("t") for _ in range(50)))
    assert kms.unwrapped == 1


async def test_a_call_that_is_cancelled_leaves_the_others_theirs(
    keyring: Keyring,
) -> None:
    calls = [asyncio.create_task(keyring.load_sealing_key("t")) for _ in range(5)]
    await asyncio.sleep(0)
    calls[0].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert {key.version for key in done[1:]} == {1}  # type: ignore[union-attr]


async def test_a_kms_that_is_away_for_less_than_the_time_is_not_missed(
    keyring: Keyring, kms: CountingKms, clock: Clock
) -> None:
    await keyring.load_sealing_key("t")
    kms.away = True
    clock.now_s += UNWRAPPED_S - 1
    assert list(await keyring.load_keys("t")) == [1]
    clock.now_s += 1 + REREAD_S
    with pytest.raises(Unavailable, match="away"):
        await keyring.load_keys("t")
    kms.away = False
    assert list(await keyring.load_keys("t")) == [1]


async def test_erased_at_once_here_and_in_time_on_other_servers(
    keyring: Keyring, table: Table, kms: CountingKms, clock: Clock
) -> None:
    other = Keyring(table, kms, clock=clock)
    await keyring.load_sealing_key("t")
    await other.load_sealing_key("t")
    await keyring.erase("t")
    with pytest.raises(FailedPrecondition, match="erased"):
        await keyring.load_keys("t")
    with pytest.raises(FailedPrecondition, match="erased"):
        await keyring.load_sealing_key("t")
    clock.now_s += REREAD_S - 1
    assert list(await other.load_keys("t")) == [1]
    clock.now_s += 1
    with pytest.raises(FailedPrecondition, match="erased"):
        await other.load_keys("t")


async def test_a_read_under_way_does_not_bring_back_what_is_erased_meanwhile(
    keyring: Keyring, table: Table, kms: CountingKms, clock: Clock
) -> None:
    await keyring.load_sealing_key("t")
    other = Keyring(table, kms, clock=clock)
    kms.asked.clear()
    kms.free.clear()
    reading = asyncio.create_task(other.load_keys("t"))
    await kms.asked.wait()
    erasing = asyncio.create_task(other.erase("t"))
    await asyncio.sleep(0)
    kms.free.set()
    assert list(await reading) == [1]
    await erasing
    with pytest.raises(FailedPrecondition, match="erased"):
        await other.load_keys("t")


async def test_a_key_after_an_erasure_takes_the_next_number(keyring: Keyring) -> None:
    await keyring.load_sealing_key("t")
    await keyring.erase("t")
    assert (await keyring.rotate("t")).version == 2
    assert list(await keyring.load_keys("t")) == [2]


async def test_rotation(keyring: Keyring) -> None:
    first = await keyring.load_sealing_key("t")
    second = await keyring.rotate("t")
    assert (first.version, second.version) == (1, 2)
    assert sorted(await keyring.load_keys("t")) == [1, 2]
    assert (await keyring.load_sealing_key("t")).version == 2
    await keyring.retire("t")
    assert list(await keyring.load_keys("t")) == [2]


async def test_rotations_at_once_are_each_a_version(keyring: Keyring, table: Table) -> None:
    await asyncio.gather(*(keyring.rotate("t") for _ in range(5)))
    assert table.current == 5


async def test_rewrapped_keys_are_the_same(keyring: Keyring, table: Table) -> None:
    key = await keyring.load_sealing_key("t")
    sealed = key.cipher_for("alice").encrypt(bytes(12), b"voice", None)
    before = table.keys[1]
    assert await keyring.rewrap("t") == 1
    assert table.keys[1] != before
    again = await keyring.load_sealing_key("t")
    assert again.cipher_for("alice").decrypt(bytes(12), sealed, None) == b"voice"


async def test_a_key_moved_to_another_tenant_is_of_no_use(keyring: Keyring) -> None:
    """The table holds one tenant's keys, whatever tenant is asked for."""
    await keyring.load_sealing_key("t")
    with pytest.raises(Unavailable, match="another tenant's"):
        await keyring.load_keys("u")


async def test_keys_that_nobody_uses_are_forgotten(
    table: Table, kms: CountingKms, clock: Clock
) -> None:
    keyring = Keyring(table, kms, clock=clock)
    await keyring.load_sealing_key("t")
    material = next(iter((await keyring.load_keys("t")).values()))
    held = weakref.ref(material)
    del material
    clock.now_s += UNWRAPPED_S
    table.keys, table.current = {}, 0
    await keyring.load_keys("u")
    assert held() is None


async def test_the_first_key_of_a_tenant_without_speakers_says_that_all_is_sealed(
    keyring: Keyring,
) -> None:
    await keyring.load_sealing_key("t")
    assert await keyring.knows_all_sealed("t")
    await keyring.rotate("t")
    assert await keyring.knows_all_sealed("t")
    assert await keyring.rewrap("t") == 2
    assert await keyring.knows_all_sealed("t")


async def test_that_all_is_sealed_is_said_once_it_is_and_cannot_be_taken_back(
    keyring: Keyring, table: Table, kms: CountingKms, clock: Clock
) -> None:
    table.speakers = 1
    key = await keyring.load_sealing_key("t")
    assert not await keyring.knows_all_sealed("t")
    await keyring.mark_all_sealed("t")
    await keyring.mark_all_sealed("t")
    assert await keyring.knows_all_sealed("t")
    assert (await keyring.load_sealing_key("t")).version == key.version
    table.keys[1] = table.keys[1].removeprefix(b"all-sealed:")
    with pytest.raises(Unavailable):
        await Keyring(table, kms, clock=clock).load_keys("t")
