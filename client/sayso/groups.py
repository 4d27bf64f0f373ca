"""Named groups of speakers (`GroupService`)."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from sayso import messages
from sayso.calls import Call, Pages, Series
from sayso.v1 import group_pb2
from sayso.v1.group_pb2_grpc import GroupServiceStub
from sayso.values import Group


def create_group(name: str, description: str = "") -> Call[Group]:
    """Make an empty group; raises `AlreadyExists`."""
    group = group_pb2.Group(name=name, description=description)
    request = group_pb2.CreateGroupRequest(group=group)
    return Call(GroupServiceStub, "CreateGroup", request, _group)


def get_group(name: str) -> Call[Group]:
    """Read one group; raises `NotFound`."""
    return Call(GroupServiceStub, "GetGroup", group_pb2.GetGroupRequest(group_name=name), _group)


def describe_group(name: str, description: str) -> Call[Group]:
    """Change the description of a group; raises `NotFound`."""
    request = group_pb2.UpdateGroupRequest(
        group=group_pb2.Group(name=name, description=description),
        update_mask=FieldMask(paths=["description"]),
    )
    return Call(GroupServiceStub, "UpdateGroup", request, _group)


def list_groups(*, page_size: int = 100) -> Pages[Group]:
    """Every group in the order of their names, read page by page."""
    request = group_pb2.ListGroupsRequest(page_size=page_size)
    return Pages(GroupServiceStub, "ListGroups", request, _groups)


def delete_group(name: str) -> Call[None]:
    """Remove a group, not its speakers; raises `NotFound`."""
    request = group_pb2.DeleteGroupRequest(group_name=name)
    return Call(GroupServiceStub, "DeleteGroup", request, _nothing)


def add_members(group: str, speaker_ids: Iterable[str]) -> Series:
    """Add speakers, a thousand at a time; raises `NotFound` at the first thousand with an unknown
    one, of which none is added."""
    return Series(
        GroupServiceStub,
        "AddMembers",
        (
            group_pb2.AddMembersRequest(group_name=group, speaker_ids=some)
            for some in messages.thousands(speaker_ids)
        ),
    )


def remove_members(group: str, speaker_ids: Iterable[str]) -> Series:
    """Take speakers out; those who are not in it are passed over."""
    return Series(
        GroupServiceStub,
        "RemoveMembers",
        (
            group_pb2.RemoveMembersRequest(group_name=group, speaker_ids=some)
            for some in messages.thousands(speaker_ids)
        ),
    )


def list_members(group: str, *, page_size: int = 100) -> Pages[str]:
    """The ids of a group's speakers in their order, read page by page."""
    request = group_pb2.ListMembersRequest(group_name=group, page_size=page_size)
    return Pages(GroupServiceStub, "ListMembers", request, _members)


def _group(response: Any) -> Group:
    return messages.group(response.group)


def _groups(response: group_pb2.ListGroupsResponse) -> list[Group]:
    return list(map(messages.group, response.groups))


def _members(response: group_pb2.ListMembersResponse) -> list[str]:
    return list(response.speaker_ids)


def _nothing(response: object) -> None:
    pass
