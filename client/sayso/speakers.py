"""The life of enrolled voices."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from sayso import messages
from sayso.connection import Connection
from sayso.statuses import raise_error
from sayso.v1 import speaker_pb2
from sayso.values import Migration, Receipt, Speaker


class Speakers(Connection):
    """`SpeakerService`."""

    def get(self, speaker_id: str) -> Speaker:
        """Reads one speaker; raises `NotFound`."""
        request = speaker_pb2.GetSpeakerRequest(speaker_id=speaker_id)
        response = self._call(self._speakers.GetSpeaker, request)
        failed = messages.failed_verifications(response.failed_verifications)
        return replace(messages.speaker(response.speaker), failed_verifications=failed)

    def list(self, *, page_size: int = 100) -> Iterator[Speaker]:
        """Every speaker in the order of their ids, read page by page."""
        request = speaker_pb2.ListSpeakersRequest(page_size=page_size)
        while True:
            response = self._call(self._speakers.ListSpeakers, request)
            yield from map(messages.speaker, response.speakers)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def update(
        self,
        speaker_id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        consent: str | None = None,
        etag: str = "",
    ) -> Speaker:
        """Replaces the metadata, the consent, or both; None leaves one as it is.

        With an `etag`, as every other write, raises `Aborted` when the speaker has changed since.
        """
        given = {"metadata": metadata, "consent": consent}
        speaker = speaker_pb2.Speaker(metadata=metadata or {}, consent=messages.consent(consent))
        paths = [path for path, value in given.items() if value is not None]
        return self._update(speaker_id, speaker, *paths, etag=etag)

    def withdraw_consent(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Keeps the voice, and lets no use be made of it until `update` records a consent."""
        return self._update(speaker_id, speaker_pb2.Speaker(), "consent", etag=etag)

    def opt_out(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Erases the voice and refuses to enrol it again, also of one who never enrolled."""
        speaker = speaker_pb2.Speaker(state=speaker_pb2.SPEAKER_STATE_OPTED_OUT)
        return self._update(speaker_id, speaker, "state", etag=etag, allow_missing=True)

    def opt_in(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Lets one who opted out enrol again."""
        speaker = speaker_pb2.Speaker(state=speaker_pb2.SPEAKER_STATE_PENDING)
        return self._update(speaker_id, speaker, "state", etag=etag)

    def undo(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Takes back the latest enrolment; raises `FailedPrecondition` when there is none."""
        request = speaker_pb2.UndoEnrollmentRequest(speaker_id=speaker_id, etag=etag)
        return messages.speaker(self._call(self._speakers.UndoEnrollment, request).speaker)

    def confirm(self, speaker_id: str, *, etag: str = "") -> Speaker:
        """Releases an enrolment for first use; raises `FailedPrecondition` unless it waits. Needs
        the role `confirm`, and another credential than those that enrolled."""
        request = speaker_pb2.ConfirmEnrollmentRequest(speaker_id=speaker_id, etag=etag)
        return messages.speaker(self._call(self._speakers.ConfirmEnrollment, request).speaker)

    def migration(self, *, timeout_s: float = 600.0) -> Migration:
        """How far the speakers have moved to the server's model; it reads every one of them."""
        try:
            counted = self._speakers.GetMigration(
                speaker_pb2.GetMigrationRequest(), timeout=timeout_s
            )
        except grpc.RpcError as error:
            raise_error(error)
        return Migration(
            counted.model_id,
            counted.previous_model_id,
            counted.moved,
            counted.waiting,
            counted.begun,
            counted.stranded,
        )

    def delete(self, speaker_id: str, *, etag: str = "") -> Receipt:
        """Erases a speaker; raises `NotFound`."""
        request = speaker_pb2.DeleteSpeakerRequest(speaker_id=speaker_id, etag=etag)
        return messages.receipt(self._call(self._speakers.DeleteSpeaker, request).receipt)

    def export(self, speaker_id: str) -> dict[str, Any]:
        """All that is held of a speaker, vectors included, as JSON has it; raises `NotFound`."""
        request = speaker_pb2.ExportSpeakerRequest(speaker_id=speaker_id)
        held = self._call(self._speakers.ExportSpeaker, request)
        return MessageToDict(held, preserving_proto_field_name=True)

    def unlock(self, speaker_id: str) -> None:
        """Lifts the lock that failed verifications have put on a speaker, known or not."""
        request = speaker_pb2.UnlockSpeakerRequest(speaker_id=speaker_id)
        self._call(self._speakers.UnlockSpeaker, request)

    def _update(
        self,
        speaker_id: str,
        speaker: speaker_pb2.Speaker,
        *paths: str,
        etag: str,
        allow_missing: bool = False,
    ) -> Speaker:
        speaker.speaker_id, speaker.etag = speaker_id, etag
        request = speaker_pb2.UpdateSpeakerRequest(
            speaker=speaker, update_mask=FieldMask(paths=paths), allow_missing=allow_missing
        )
        return messages.speaker(self._call(self._speakers.UpdateSpeaker, request).speaker)
