"""What groups must do in every store."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.errors import AlreadyExists, FailedPrecondition, NotFound
from service.store import Changes, Group, Revision, Speaker, Store, groups, open_store

MakeSpeaker = Callable[..., Speaker]


def group(name: str = "callers") -> Group:
    return Group(name, "who calls", 1_700_000_000.25)


async def enrol(store: Store, make_speaker: MakeSpeaker, *speaker_ids: str) -> None:
    for speaker_id in speaker_ids:
        await store.put(make_speaker(speaker_id), expected_etag=None)


async def members(store: Store, tenant: str, name: str = "callers", limit: int = 100) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await store.groups.members(tenant, name, limit=limit, after=after)
        assert len(page.speaker_ids) <= limit
        found += page.speaker_ids
        if page.next_after is None:
            return found
        after = page.next_after


class Reader:
    """Holds a group by following its changes."""

    def __init__(self, store: Store, tenant: str, *, limit: int = 100) -> None:
        self._store, self._tenant, self._limit = store, tenant, limit
        self.revision: Revision | None = None
        self.held: dict[int, str] = {}
        self.restarts = 0

    async def follow(self) -> list[Changes]:
        pages = []
        while not pages or pages[-1].more:
            page = await self._store.groups.changes(
                self._tenant, "callers", since=self.revision, limit=self._limit
            )
            assert len(page.members) <= self._limit
            if page.restart:
                self.restarts += 1
                self.held = {}
            for member in page.members:
                self.held.pop(member.slot, None)
                if member.speaker_id is not None:
                    self.held[member.slot] = member.speaker_id
            self.revision = page.revision
            pages.append(page)
        return pages

    async def news(self) -> list[str | None]:
        """Whom the pages name, None for each who left."""
        return [member.speaker_id for page in await self.follow() for member in page.members]


async def test_create_list_delete(store: Store, tenant: str) -> None:
    names = [*(f"group {n:02}" for n in range(7)), "{tag}", "a:members", "группа"]
    for name in random.Random(0).sample(names, len(names)):
        await store.groups.create(tenant, replace(group(), name=name))
    listed: list[str] = []
    after = None
    while True:
        page = await store.groups.list(tenant, limit=3, after=after)
        listed += [found.name for found in page.groups]
        if page.next_after is None:
            break
        after = page.next_after
    assert listed == sorted(names)
    assert await store.groups.get(tenant, "a:members") == replace(group(), name="a:members")
    await store.groups.delete(tenant, "{tag}")
    with pytest.raises(NotFound):
        await store.groups.get(tenant, "{tag}")
    with pytest.raises(NotFound):
        await store.groups.delete(tenant, "{tag}")
    assert len((await store.groups.list(tenant, limit=100)).groups) == len(names) - 1


async def test_a_name_is_used_once(store: Store, tenant: str) -> None:
    await store.groups.create(tenant, group())
    with pytest.raises(AlreadyExists):
        await store.groups.create(tenant, replace(group(), description="another"))
    assert (await store.groups.get(tenant, "callers")).description == "who calls"


async def test_creation_has_one_winner(store: Store, tenant: str) -> None:
    outcomes = await asyncio.gather(
        *(store.groups.create(tenant, group()) for _ in range(8)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    assert [type(outcome) for outcome in outcomes].count(AlreadyExists) == 7


async def test_members_come_and_go(store: Store, tenant: str, make_speaker: MakeSpeaker) -> None:
    names = [f"{n:02}" for n in range(12)]
    await enrol(store, make_speaker, *names)
    await store.groups.create(tenant, group())
    assert (await store.groups.add(tenant, "callers", names[:8])).members == 8
    again = await store.groups.add(tenant, "callers", [*names[6:], *names[6:]])
    assert again == replace(group(), members=12)
    assert await members(store, tenant, limit=5) == names
    left = await store.groups.remove(tenant, "callers", [names[0], names[3], names[3], "nobody"])
    assert left.members == 10
    assert await store.groups.remove(tenant, "callers", [names[3]]) == left
    assert await store.groups.get(tenant, "callers") == left
    assert await members(store, tenant) == [name for name in names if name not in ("00", "03")]


async def test_a_new_description_leaves_the_members(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice")
    await store.groups.create(tenant, group())
    await store.groups.add(tenant, "callers", ["alice"])
    changed = await store.groups.describe(tenant, "callers", "others")
    assert changed == replace(group(), description="others", members=1)
    assert await store.groups.get(tenant, "callers") == changed


async def test_an_unknown_group_is_not_found(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice")
    calls = [
        store.groups.get(tenant, "none"),
        store.groups.describe(tenant, "none", ""),
        store.groups.delete(tenant, "none"),
        store.groups.add(tenant, "none", ["alice"]),
        store.groups.remove(tenant, "none", ["alice"]),
        store.groups.members(tenant, "none", limit=1),
        store.groups.changes(tenant, "none", since=None, limit=1),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="no such group"):
            await call


async def test_unknown_speakers_are_counted_and_none_is_added(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice", "bob")
    await store.groups.create(tenant, group())
    with pytest.raises(NotFound, match="2 of the 3 speakers"):
        await store.groups.add(tenant, "callers", ["alice", "carol", "dave", "dave"])
    assert await members(store, tenant) == []


async def test_limits_hold(
    store: Store, tenant: str, make_speaker: MakeSpeaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (groups, groups_of(store)):
        monkeypatch.setattr(module, "MAX_MEMBERS", 2)
        monkeypatch.setattr(module, "MAX_GROUPS", 2)
    await enrol(store, make_speaker, "a", "b", "c")
    for name in ("callers", "second"):
        await store.groups.create(tenant, group(name))
    with pytest.raises(FailedPrecondition, match="groups already"):
        await store.groups.create(tenant, group("third"))
    await store.groups.add(tenant, "callers", ["a"])
    with pytest.raises(FailedPrecondition, match="at most"):
        await store.groups.add(tenant, "callers", ["a", "b", "c"])
    assert await members(store, tenant) == ["a"]
    await store.groups.add(tenant, "callers", ["a", "b"])


def groups_of(store: Store) -> object:
    """The module that the store's groups come from."""
    import sys  # noqa: PLC0415

    return sys.modules[type(store.groups).__module__]


async def test_a_deleted_speaker_leaves_every_group(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice", "bob")
    for name in ("callers", "second"):
        await store.groups.create(tenant, group(name))
        await store.groups.add(tenant, name, ["alice", "bob"])
    await store.delete(tenant, "alice")
    for name in ("callers", "second"):
        assert await members(store, tenant, name) == ["bob"]
        assert (await store.groups.get(tenant, name)).members == 1
    await enrol(store, make_speaker, "alice")
    assert await members(store, tenant) == ["bob"], "a new speaker is in no group"


async def test_a_deleted_group_leaves_its_speakers(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice")
    await store.groups.create(tenant, group())
    await store.groups.add(tenant, "callers", ["alice"])
    await store.groups.delete(tenant, "callers")
    found = await store.get(tenant, "alice")
    assert found is not None
    await store.groups.create(tenant, group())
    assert await members(store, tenant) == []
    await store.put(found, expected_etag=found.etag)
    assert await store.delete(tenant, "alice")


async def test_tenants_are_apart(store: Store, tenant: str, make_speaker: MakeSpeaker) -> None:
    await enrol(store, make_speaker, "alice")
    await store.groups.create(tenant, group())
    await store.groups.add(tenant, "callers", ["alice"])
    for other in (tenant + ":", tenant + "}", tenant[:-1], "{" + tenant):
        with pytest.raises(NotFound):
            await store.groups.get(other, "callers")
        with pytest.raises(NotFound):
            await store.groups.members(other, "callers", limit=10)
        assert (await store.groups.list(other, limit=10)).groups == ()
        await store.groups.create(other, group())
        with pytest.raises(NotFound, match="1 of the 1"):
            await store.groups.add(other, "callers", ["alice"])
        await store.groups.delete(other, "callers")
    assert await members(store, tenant) == ["alice"]


async def test_every_change_is_told(
    store: Store, address: str, tenant: str, make_speaker: MakeSpeaker
) -> None:
    """As another server on the same store sees them."""
    await enrol(store, make_speaker, "alice", "bob", "carol")
    await store.groups.create(tenant, group())
    async with open_store(address) as other:
        reader = Reader(other, tenant)
        assert await reader.news() == []
        await store.groups.add(tenant, "callers", ["alice", "bob"])
        assert await reader.news() == ["alice", "bob"]
        assert await reader.news() == []
        await store.groups.add(tenant, "callers", ["alice"])
        assert await reader.news() == [], "nothing changed"
        found = await store.get(tenant, "alice")
        assert found is not None
        await store.put(replace(found, metadata={"line": "2"}), expected_etag=found.etag)
        assert await reader.news() == ["alice"]
        await store.touch(tenant, "alice", "model-a", at=1e9)
        assert await reader.news() == [], "a use is no change"
        await store.put(make_speaker("dave"), expected_etag=None)
        assert await reader.news() == [], "no member"
        await store.groups.remove(tenant, "callers", ["bob"])
        assert await reader.news() == [None]
        await store.delete(tenant, "alice")
        assert await reader.news() == [None]
        await store.groups.add(tenant, "callers", ["bob", "carol"])
        assert sorted(reader.held.values()) == []
        await reader.follow()
        assert sorted(reader.held.values()) == ["bob", "carol"]
    assert reader.restarts == 1


async def test_a_new_group_of_an_old_name_starts_again(
    store: Store, tenant: str, make_speaker: MakeSpeaker
) -> None:
    await enrol(store, make_speaker, "alice", "bob")
    await store.groups.create(tenant, group())
    await store.groups.add(tenant, "callers", ["alice"])
    reader = Reader(store, tenant)
    await reader.follow()
    await store.groups.delete(tenant, "callers")
    await store.groups.create(tenant, group())
    await store.groups.add(tenant, "callers", ["bob"])
    assert await reader.news() == ["bob"]
    assert list(reader.held.values()) == ["bob"]
    assert reader.restarts == 2


async def test_who_is_far_behind_starts_again() -> None:
    now = Revision("g", 2 * groups.DEPARTURES)
    assert groups.must_restart(Revision("g", groups.DEPARTURES - 1), now)
    assert not groups.must_restart(Revision("g", groups.DEPARTURES), now)
    assert not groups.must_restart(now, now)
    assert groups.must_restart(Revision("g", now.version + 1), now), "an older copy was restored"
    assert groups.must_restart(Revision("h", now.version), now)
    assert groups.must_restart(None, now)


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_reader_ends_with_the_members_whatever_happens_meanwhile(
    store: Store, tenant: str, make_speaker: MakeSpeaker, limit: int
) -> None:
    names = [f"{n:02}" for n in range(10)]
    await enrol(store, make_speaker, *names)
    await store.groups.create(tenant, group())
    rng = random.Random(limit)
    readers = [Reader(store, tenant, limit=limit) for _ in range(2)]

    async def churn() -> None:
        for _ in range(25):
            some = rng.sample(names, 3)
            found = await store.get(tenant, some[0])
            match rng.randrange(4):
                case 0:
                    await store.groups.remove(tenant, "callers", some)
                case 1 if found is not None:
                    await store.delete(tenant, some[0])
                    await store.put(make_speaker(some[0]), expected_etag=None)
                case 2 if found is not None:
                    await store.put(found, expected_etag=found.etag)
                case _:
                    await store.groups.add(tenant, "callers", some)

    async def follow(reader: Reader) -> None:
        while not done.is_set():
            await reader.follow()

    done = asyncio.Event()
    following = [asyncio.create_task(follow(reader)) for reader in readers]
    await churn()
    done.set()
    await asyncio.gather(*following)
    for reader in (*readers, Reader(store, tenant, limit=limit)):
        await reader.follow()
        assert sorted(reader.held.values()) == await members(store, tenant)
        assert reader.restarts == 1
    assert (await store.groups.get(tenant, "callers")).members == len(await members(store, tenant))


async def test_get_many(store: Store, tenant: str, make_speaker: MakeSpeaker) -> None:
    written = [
        await store.put(make_speaker(name), expected_etag=None) for name in ("a", "b", "c:d")
    ]
    found = await store.get_many(tenant, ["c:d", "nobody", "a"])
    assert sorted(found, key=lambda speaker: speaker.speaker_id) == [written[0], written[2]]
    assert await store.get_many(tenant, []) == []
    assert await store.get_many(tenant + "x", ["a"]) == []
