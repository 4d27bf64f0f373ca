"""The client that blocks."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from sayso import announcements, events, groups, server, speakers, voices
from sayso.batch import MAX_ITEM_BYTES, Outgoing, failure
from sayso.blocking.methods import Part, feed, live, method, paged, series
from sayso.blocking.transport import Transport
from sayso.connection import ADDRESS, TIMEOUT_S, Target, make_request_id
from sayso.errors import SaysoError
from sayso.security import Tls
from sayso.v1.verification_pb2_grpc import VerificationServiceStub
from sayso.values import BatchItem, BatchResult


class Speakers(Part):
    """The life of enrolled voices."""

    get = method(speakers.get_speaker)
    list = paged(speakers.list_speakers)
    list_page = method(speakers.list_page)
    update = method(speakers.update_speaker)
    withdraw_consent = method(speakers.withdraw_consent)
    opt_out = method(speakers.opt_out)
    opt_in = method(speakers.opt_in)
    undo = method(speakers.undo_enrollment)
    confirm = method(speakers.confirm_enrollment)
    migration = method(speakers.get_migration)
    delete = method(speakers.delete_speaker)
    export = method(speakers.export_speaker)
    unlock = method(speakers.unlock_speaker)


class Groups(Part):
    """Named groups of speakers."""

    create = method(groups.create_group)
    get = method(groups.get_group)
    describe = method(groups.describe_group)
    list = paged(groups.list_groups)
    delete = method(groups.delete_group)
    add_members = series(groups.add_members)
    remove_members = series(groups.remove_members)
    members = paged(groups.list_members)


class Client(Part):
    """A connection to a Sayso server, for any number of threads; closed on leaving.

    `address` is host:port or another gRPC target, such as `ipv4:10.0.0.1:50051,10.0.0.2:50051`;
    calls go to all servers that it names, in turn. `timeout_s` is the deadline of every call but a
    live one. `options` are channel options of gRPC, over `OPTIONS`; None leaves one to gRPC.

    `credential` is an API key or a JSON Web Token, which every call shows. Without `tls` the
    connection is plaintext; a credential then stays on this machine unless `insecure` allows
    otherwise, and a `SettingsError` says so. `request_ids` names each call, for the server's log.

    `audio` is the bytes of a WAV, FLAC, Ogg or MP3 file, its path, or the open file; for raw
    samples say so with `raw`; `channel` picks the caller's side of a two-channel recording.
    Failures are raised as the classes of `sayso.errors`; too little speech is a decision, not a
    failure.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        timeout_s: float = TIMEOUT_S,
        credential: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        options: Mapping[str, Any] | None = None,
        request_ids: Callable[[], str] = make_request_id,
    ) -> None:
        target = Target(address, credential, tls, insecure, options)
        super().__init__(Transport(target, timeout_s=timeout_s, request_ids=request_ids))
        self.speakers = Speakers(self._transport)
        self.groups = Groups(self._transport)

    enroll = method(voices.enroll)
    enroll_stream = live(voices.enroll_stream)
    verify = method(voices.verify)
    verify_stream = live(voices.verify_stream)
    identify = method(voices.identify)
    embed = method(voices.embed)
    compare = method(voices.compare)
    announce_call = method(announcements.announce_call)
    take_call = method(announcements.take_call)
    watch_events = feed(events.watch_events)
    server_info = method(server.get_server_info)

    def batch_enroll(
        self, items: Iterable[BatchItem], *, max_item_bytes: int = MAX_ITEM_BYTES
    ) -> Generator[BatchResult, None, None]:
        """Enrolls many recordings on one stream; yields a result for each as it is ready.

        An item that fails does not end the others; a recording that the voice holds already is not
        added twice, so a batch that broke off may be sent again. `max_item_bytes` is the server's
        limit; an item that is too large for one message is sent on a stream of its own. Raises
        when a stream itself ends in an error.
        """
        numbered, outgoing = enumerate(items), Outgoing(max_item_bytes)
        while True:
            requests = outgoing.requests(numbered)
            responses = self._transport.exchange(VerificationServiceStub, "BatchEnroll", requests)
            with contextlib.closing(responses):
                for response in responses:
                    yield from outgoing.take_unsent()
                    yield outgoing.result(response)
            yield from outgoing.take_unsent()
            if outgoing.large is None:
                return
            yield self._enroll_large(*outgoing.large)

    def ready(self) -> bool:
        """Whether the server is there, its model loaded and its store reachable."""
        return not self.why_not_ready()

    def why_not_ready(self) -> str:
        """Empty if the server is ready; else what it is waiting for, or why it is not reached."""
        return self._transport.why_not_ready()

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _enroll_large(self, index: int, item: BatchItem, audio: bytes) -> BatchResult:
        try:
            enrollment = self._transport.send(voices.enroll_item(item, audio))
        except SaysoError as error:
            return failure(index, item, error)
        return BatchResult(index, item.speaker_id, enrollment)
