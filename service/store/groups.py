"""Groups of speakers in a store, and how a reader follows the changes of a group.

    Group ── member ── speaker       a speaker that is deleted leaves every group in the same write

A group's version rises whenever a member joins, leaves or is written. A reader that has a group as
of a `Revision` asks for the changes after it, page by page. A member has a slot for as long as it
is in the group, and is listed once, at its latest version. Of a member that left only the slot is
listed: the group forgets who it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import AlreadyExists, ErrorReason, FailedPrecondition, NotFound

MAX_GROUPS = 1000
"""Groups of one tenant."""

MAX_MEMBERS = 1_000_000
"""Members of one group."""

DEPARTURES = 100_000
"""For how many versions a group remembers who left; a reader further behind starts again."""


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of speakers; `members` counts them."""

    name: str
    description: str
    created_at: float
    members: int = 0


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Groups in code-point order of their names; `next_after` is None after the last page."""

    groups: tuple[Group, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Speaker ids in code-point order; `next_after` is None after the last page."""

    speaker_ids: tuple[str, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Revision:
    """A version of a group; `group_id` differs from that of an earlier group of the same name."""

    group_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member that joined or changed or, if `speaker_id` is None, left."""

    slot: int
    speaker_id: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes up to `revision`; with `restart` they start from an empty group."""

    revision: Revision
    restart: bool
    members: tuple[Member, ...]
    more: bool


class Groups(Protocol):
    """Groups by tenant and name; no call sees another tenant's. Raises as `Store` does, and
    NotFound for an unknown group."""

    async def create(self, tenant: str, group: Group) -> None:
        """Raise AlreadyExists for a name in use, FailedPrecondition beyond MAX_GROUPS."""
        ...

    async def get(self, tenant: str, name: str) -> Group: ...

    async def describe(self, tenant: str, name: str, description: str) -> Group:
        """Change a group's description; raises NotFound."""
        ...

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> GroupPage:
        """Up to `limit` groups with names after `after`; as stable under change as speakers."""
        ...

    async def delete(self, tenant: str, name: str) -> None: ...

    async def add(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        """Add all or none; those already in it stay as they are.

        Raises NotFound with how many of them are unknown speakers, FailedPrecondition beyond
        MAX_MEMBERS.
        """
        ...

    async def remove(self, tenant: str, name: str, speaker_ids: Sequence[str]) -> Group:
        """Remove the speakers that are members; others are ignored."""
        ...

    async def members(
        self, tenant: str, name: str, *, limit: int, after: str | None = None
    ) -> MemberPage: ...

    async def of(self, tenant: str, speaker_id: str) -> Sequence[str]:
        """The names of the groups that a speaker is in, in code-point order."""
        ...

    async def changes(
        self, tenant: str, name: str, *, since: Revision | None, limit: int
    ) -> Changes:
        """Up to `limit` members that changed after `since` (None: all), by rising version."""
        ...


def must_restart(since: Revision | None, now: Revision) -> bool:
    """Whether not all changes after `since` are known, so that the reader starts again."""
    return (
        since is None
        or since.group_id != now.group_id
        or not now.version - DEPARTURES <= since.version <= now.version
    )


def no_such_group() -> NotFound:
    return NotFound(
        "there is no such group; create it first, or list the groups there are",
        reason=ErrorReason.GROUP_NOT_FOUND,
    )


def group_exists() -> AlreadyExists:
    return AlreadyExists("there is a group of that name; delete it first, or choose another name")


def too_many_groups() -> FailedPrecondition:
    return FailedPrecondition(
        f"there are {MAX_GROUPS} groups already; delete one first", reason=ErrorReason.GROUP_LIMIT
    )


def too_many_members() -> FailedPrecondition:
    return FailedPrecondition(
        f"a group holds at most {MAX_MEMBERS} members; make another group",
        reason=ErrorReason.GROUP_LIMIT,
    )


def unknown_speakers(count: int, asked: int) -> NotFound:
    return NotFound(
        f"{count} of the {asked} speakers are unknown, so none was added; enroll them first",
        reason=ErrorReason.SPEAKER_NOT_FOUND,
    )
