"""Named groups of speakers."""

from collections.abc import Iterable, Iterator

from sayso import messages
from sayso.connection import Connection
from sayso.v1 import watchlist_pb2
from sayso.values import Group


class Groups(Connection):
    """`WatchlistService`."""

    def create_group(self, name: str, description: str = "") -> Group:
        """Makes an empty group; raises `AlreadyExists`."""
        group = watchlist_pb2.Group(name=name, description=description)
        request = watchlist_pb2.CreateGroupRequest(group=group)
        return messages.group(self._call(self._groups.CreateGroup, request).group)

    def groups(self, *, page_size: int = 100) -> Iterator[Group]:
        """Every group in the order of their names, read page by page."""
        request = watchlist_pb2.ListGroupsRequest(page_size=page_size)
        while True:
            response = self._call(self._groups.ListGroups, request)
            yield from map(messages.group, response.groups)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def delete_group(self, name: str) -> None:
        """Removes a group, not its speakers; raises `NotFound`."""
        self._call(self._groups.DeleteGroup, watchlist_pb2.DeleteGroupRequest(name=name))

    def add_members(self, group: str, speaker_ids: Iterable[str]) -> None:
        """Adds speakers, a thousand at a time; raises `NotFound` at the first thousand with an
        unknown one, of which none is added."""
        for some in messages.thousands(speaker_ids):
            request = watchlist_pb2.AddMembersRequest(group=group, speaker_ids=some)
            self._call(self._groups.AddMembers, request)

    def remove_members(self, group: str, speaker_ids: Iterable[str]) -> None:
        """Takes speakers out; those who are not in it are passed over."""
        for some in messages.thousands(speaker_ids):
            request = watchlist_pb2.RemoveMembersRequest(group=group, speaker_ids=some)
            self._call(self._groups.RemoveMembers, request)

    def members(self, group: str, *, page_size: int = 100) -> Iterator[str]:
        """The ids of a group's speakers in their order, read page by page."""
        request = watchlist_pb2.ListMembersRequest(group=group, page_size=page_size)
        while True:
            response = self._call(self._groups.ListMembers, request)
            yield from response.speaker_ids
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token
