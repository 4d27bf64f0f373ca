"""Named groups of speakers (`WatchlistService`)."""

from collections.abc import Iterable

from sayso import messages
from sayso.calls import Call, Pages, Series
from sayso.v1 import watchlist_pb2
from sayso.v1.watchlist_pb2_grpc import WatchlistServiceStub
from sayso.values import Group


def create_group(name: str, description: str = "") -> Call[Group]:
    """Makes an empty group; raises `AlreadyExists`."""
    group = watchlist_pb2.Group(name=name, description=description)
    request = watchlist_pb2.CreateGroupRequest(group=group)
    return Call(WatchlistServiceStub, "CreateGroup", request, _group)


def list_groups(*, page_size: int = 100) -> Pages[Group]:
    """Every group in the order of their names, read page by page."""
    request = watchlist_pb2.ListGroupsRequest(page_size=page_size)
    return Pages(WatchlistServiceStub, "ListGroups", request, _groups)


def delete_group(name: str) -> Call[None]:
    """Removes a group, not its speakers; raises `NotFound`."""
    request = watchlist_pb2.DeleteGroupRequest(name=name)
    return Call(WatchlistServiceStub, "DeleteGroup", request, _nothing)


def add_members(group: str, speaker_ids: Iterable[str]) -> Series:
    """Adds speakers, a thousand at a time; raises `NotFound` at the first thousand with an unknown
    one, of which none is added."""
    return Series(
        WatchlistServiceStub,
        "AddMembers",
        (
            watchlist_pb2.AddMembersRequest(group=group, speaker_ids=some)
            for some in messages.thousands(speaker_ids)
        ),
    )


def remove_members(group: str, speaker_ids: Iterable[str]) -> Series:
    """Takes speakers out; those who are not in it are passed over."""
    return Series(
        WatchlistServiceStub,
        "RemoveMembers",
        (
            watchlist_pb2.RemoveMembersRequest(group=group, speaker_ids=some)
            for some in messages.thousands(speaker_ids)
        ),
    )


def list_members(group: str, *, page_size: int = 100) -> Pages[str]:
    """The ids of a group's speakers in their order, read page by page."""
    request = watchlist_pb2.ListMembersRequest(group=group, page_size=page_size)
    return Pages(WatchlistServiceStub, "ListMembers", request, _members)


def _group(response: watchlist_pb2.CreateGroupResponse) -> Group:
    return messages.group(response.group)


def _groups(response: watchlist_pb2.ListGroupsResponse) -> list[Group]:
    return list(map(messages.group, response.groups))


def _members(response: watchlist_pb2.ListMembersResponse) -> list[str]:
    return list(response.speaker_ids)


def _nothing(response: object) -> None:
    pass
