"""`GroupService`: named groups of speakers and their members."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from google.protobuf.field_mask_pb2 import FieldMask
from sayso.v1 import group_pb2 as pb
from sayso.v1 import group_pb2_grpc

from service.audit import Action, Auditor, Change
from service.decisions.named_policies import MAX_WATCHLISTS
from service.errors import InvalidArgument
from service.rpc import messages, pages
from service.rpc.requests import Context, get_tenant
from service.store import Group, Store

MAX_GROUP_NAME_CHARACTERS = 64
MAX_SPEAKERS_AT_ONCE = 1000


class GroupRpc(group_pb2_grpc.GroupServiceServicer):
    def __init__(
        self, *, store: Store, auditor: Auditor, clock: Callable[[], float] = time.time
    ) -> None:
        self._groups = store.groups
        self._auditor = auditor
        self._clock = clock

    async def CreateGroup(
        self, request: pb.CreateGroupRequest, context: Context
    ) -> pb.CreateGroupResponse:
        name = parse_group_name(request.group.name, field="group.name")
        group = Group(name, _parse_description(request.group.description), self._clock())
        async with self._auditor.record_change(Action.GROUP, group=name, change="create"):
            await self._groups.create(get_tenant(), group)
        return pb.CreateGroupResponse(group=_build_group(group))

    async def GetGroup(self, request: pb.GetGroupRequest, context: Context) -> pb.GetGroupResponse:
        name = parse_group_name(request.group_name)
        return pb.GetGroupResponse(group=_build_group(await self._groups.get(get_tenant(), name)))

    async def ListGroups(
        self, request: pb.ListGroupsRequest, context: Context
    ) -> pb.ListGroupsResponse:
        page = await self._groups.list(
            get_tenant(),
            limit=pages.parse_page_size(request.page_size),
            after=pages.decode_token(request.page_token),
        )
        return pb.ListGroupsResponse(
            groups=map(_build_group, page.groups),
            next_page_token=pages.encode_token(page.next_after),
        )

    async def UpdateGroup(
        self, request: pb.UpdateGroupRequest, context: Context
    ) -> pb.UpdateGroupResponse:
        _check_mask(request.update_mask)
        name = parse_group_name(request.group.name, field="group.name")
        description = _parse_description(request.group.description)
        async with self._auditor.record_change(Action.GROUP, group=name, change="update"):
            group = await self._groups.describe(get_tenant(), name, description)
        return pb.UpdateGroupResponse(group=_build_group(group))

    async def DeleteGroup(
        self, request: pb.DeleteGroupRequest, context: Context
    ) -> pb.DeleteGroupResponse:
        name = parse_group_name(request.group_name)
        async with self._auditor.record_change(Action.GROUP, group=name, change="delete"):
            await self._groups.delete(get_tenant(), name)
        return pb.DeleteGroupResponse()

    async def AddMembers(
        self, request: pb.AddMembersRequest, context: Context
    ) -> pb.AddMembersResponse:
        speaker_ids, name = (
            _parse_speaker_ids(request.speaker_ids),
            parse_group_name(request.group_name),
        )
        async with self._audit_change(name, "add", speaker_ids):
            group = await self._groups.add(get_tenant(), name, speaker_ids)
        return pb.AddMembersResponse(group=_build_group(group))

    async def RemoveMembers(
        self, request: pb.RemoveMembersRequest, context: Context
    ) -> pb.RemoveMembersResponse:
        speaker_ids, name = (
            _parse_speaker_ids(request.speaker_ids),
            parse_group_name(request.group_name),
        )
        async with self._audit_change(name, "remove", speaker_ids):
            group = await self._groups.remove(get_tenant(), name, speaker_ids)
        return pb.RemoveMembersResponse(group=_build_group(group))

    async def ListMembers(
        self, request: pb.ListMembersRequest, context: Context
    ) -> pb.ListMembersResponse:
        page = await self._groups.members(
            get_tenant(),
            parse_group_name(request.group_name),
            limit=pages.parse_page_size(request.page_size),
            after=pages.decode_token(request.page_token),
        )
        return pb.ListMembersResponse(
            speaker_ids=page.speaker_ids, next_page_token=pages.encode_token(page.next_after)
        )

    def _audit_change(
        self, name: str, change: str, speaker_ids: Sequence[str]
    ) -> AbstractAsyncContextManager[Change]:
        """Audits a change of members; the entry names a single speaker, or else their number."""
        one = speaker_ids[0] if len(speaker_ids) == 1 else ""
        return self._auditor.record_change(
            Action.GROUP, one, group=name, change=change, speakers=len(speaker_ids)
        )


def parse_group_name(value: str, *, field: str = "group_name") -> str:
    return messages.parse_name(value, most=MAX_GROUP_NAME_CHARACTERS, field=field)


def parse_watchlists(values: Iterable[str], *, field: str = "watchlists") -> tuple[str, ...]:
    """Return the distinct groups to screen against."""
    names = tuple(dict.fromkeys(values))
    if len(names) > MAX_WATCHLISTS:
        raise InvalidArgument(f"holds more than {MAX_WATCHLISTS} groups", field=field)
    return tuple(parse_group_name(name, field=f"{field}[{at}]") for at, name in enumerate(names))


def _parse_speaker_ids(values: Iterable[str]) -> list[str]:
    speaker_ids = list(values)
    if not 1 <= len(speaker_ids) <= MAX_SPEAKERS_AT_ONCE:
        raise InvalidArgument(f"must be 1 to {MAX_SPEAKERS_AT_ONCE} ids", field="speaker_ids")
    return [
        messages.parse_speaker_id(value, field=f"speaker_ids[{at}]")
        for at, value in enumerate(speaker_ids)
    ]


def _check_mask(mask: FieldMask) -> None:
    if list(mask.paths) != ["description"]:
        raise InvalidArgument("must be `description`, which alone can change", field="update_mask")


def _parse_description(value: str) -> str:
    if len(value) > messages.MAX_TEXT_CHARACTERS:
        raise InvalidArgument(
            f"must be at most {messages.MAX_TEXT_CHARACTERS} characters", field="group.description"
        )
    return value


def _build_group(group: Group) -> pb.Group:
    return pb.Group(
        name=group.name,
        description=group.description,
        member_count=group.members,
        create_time=messages.build_timestamp(group.created_at),
    )
