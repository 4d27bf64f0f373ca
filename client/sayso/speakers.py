"""The life of enrolled voices (`SpeakerService`)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from sayso import messages
from sayso.calls import Call, Pages
from sayso.v1 import speaker_pb2
from sayso.v1.speaker_pb2_grpc import SpeakerServiceStub
from sayso.values import Migration, Receipt, Speaker


def get_speaker(speaker_id: str) -> Call[Speaker]:
    """Read one speaker; raises `NotFound`."""
    request = speaker_pb2.GetSpeakerRequest(speaker_id=speaker_id)
    return Call(SpeakerServiceStub, "GetSpeaker", request, _with_failures)


def list_speakers(
    *,
    states: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    expires_before: datetime | None = None,
    model_id: str = "",
    page_size: int = 100,
    descending: bool = False,
) -> Pages[Speaker]:
    """Every speaker in the order of their ids, or `descending`, read page by page: those in any of
    `states`, whose metadata holds all of `metadata`, whose voice expires before a time, who have a
    voiceprint of a model."""
    wanted = speaker_pb2.SpeakerFilter(
        states=[speaker_pb2.SpeakerState.Value(f"SPEAKER_STATE_{state}") for state in states],
        metadata=metadata or {},
        expires_before=messages.timestamp(expires_before),
        model_id=model_id,
    )
    request = speaker_pb2.ListSpeakersRequest(
        page_size=page_size, filter=wanted, order_by="speaker_id desc" if descending else ""
    )
    return Pages(SpeakerServiceStub, "ListSpeakers", request, _speakers)


def list_page(
    *,
    page_token: str = "",
    page_size: int = 100,
    metadata: Mapping[str, str] | None = None,
) -> Call[tuple[list[Speaker], str]]:
    """One page of speakers, for a program that hands pages on, and the token of the next; empty on
    the last."""
    request = speaker_pb2.ListSpeakersRequest(
        page_token=page_token,
        page_size=page_size,
        filter=speaker_pb2.SpeakerFilter(metadata=metadata or {}),
    )
    return Call(SpeakerServiceStub, "ListSpeakers", request, _page)


def update_speaker(
    speaker_id: str,
    *,
    metadata: Mapping[str, str] | None = None,
    consent: str | None = None,
    etag: str = "",
    allow_missing: bool = False,
) -> Call[Speaker]:
    """Replace the metadata, the consent, or both; None leaves one as it is. With `allow_missing`
    a speaker who is not there is made, without a voice.

    With an `etag`, as every other write, raises `Aborted` when the speaker has changed since.
    """
    given = {"metadata": metadata, "consent": consent}
    speaker = speaker_pb2.Speaker(metadata=metadata or {}, consent=messages.consent(consent))
    paths = [path for path, value in given.items() if value is not None]
    return _update(speaker_id, speaker, *paths, etag=etag, allow_missing=allow_missing)


def withdraw_consent(speaker_id: str, *, etag: str = "") -> Call[Speaker]:
    """Keep the voice, and let no use be made of it until `update` records a consent."""
    return _update(speaker_id, speaker_pb2.Speaker(), "consent", etag=etag)


def opt_out(speaker_id: str, *, etag: str = "") -> Call[Speaker]:
    """Erases the voice and refuses to enroll it again, also of one who never enrolled."""
    request = speaker_pb2.OptOutSpeakerRequest(speaker_id=speaker_id, etag=etag)
    return Call(SpeakerServiceStub, "OptOutSpeaker", request, _speaker)


def opt_in(speaker_id: str, *, etag: str = "") -> Call[Speaker]:
    """Lets one who opted out enroll again."""
    request = speaker_pb2.OptInSpeakerRequest(speaker_id=speaker_id, etag=etag)
    return Call(SpeakerServiceStub, "OptInSpeaker", request, _speaker)


def undo_enrollment(speaker_id: str, *, etag: str = "") -> Call[Speaker]:
    """Take back the latest enrollment; raises `FailedPrecondition` when there is none."""
    request = speaker_pb2.UndoEnrollmentRequest(speaker_id=speaker_id, etag=etag)
    return Call(SpeakerServiceStub, "UndoEnrollment", request, _speaker)


def confirm_enrollment(speaker_id: str, *, etag: str = "") -> Call[Speaker]:
    """Releases an enrollment for first use; raises `FailedPrecondition` unless it waits. Needs the
    role `confirm`, and another credential than those that enrolled."""
    request = speaker_pb2.ConfirmEnrollmentRequest(speaker_id=speaker_id, etag=etag)
    return Call(SpeakerServiceStub, "ConfirmEnrollment", request, _speaker)


def get_migration(*, timeout_s: float = 600.0) -> Call[Migration]:
    """How far the speakers have moved to the server's model; it reads every one of them."""
    request = speaker_pb2.GetMigrationRequest()
    return Call(SpeakerServiceStub, "GetMigration", request, _migration, timeout_s=timeout_s)


def delete_speaker(speaker_id: str, *, etag: str = "") -> Call[Receipt]:
    """Erases a speaker; raises `NotFound`."""
    request = speaker_pb2.DeleteSpeakerRequest(speaker_id=speaker_id, etag=etag)
    return Call(SpeakerServiceStub, "DeleteSpeaker", request, _receipt)


def export_speaker(speaker_id: str) -> Call[dict[str, Any]]:
    """All that is held of a speaker, vectors included, as JSON has it; raises `NotFound`."""
    request = speaker_pb2.ExportSpeakerRequest(speaker_id=speaker_id)
    return Call(SpeakerServiceStub, "ExportSpeaker", request, _as_json)


def unlock_speaker(speaker_id: str) -> Call[None]:
    """Lifts the lock that failed verifications have put on a speaker, known or not."""
    request = speaker_pb2.UnlockSpeakerRequest(speaker_id=speaker_id)
    return Call(SpeakerServiceStub, "UnlockSpeaker", request, lambda response: None)


def _update(
    speaker_id: str,
    speaker: speaker_pb2.Speaker,
    *paths: str,
    etag: str,
    allow_missing: bool = False,
) -> Call[Speaker]:
    speaker.speaker_id, speaker.etag = speaker_id, etag
    request = speaker_pb2.UpdateSpeakerRequest(
        speaker=speaker, update_mask=FieldMask(paths=paths), allow_missing=allow_missing
    )
    return Call(SpeakerServiceStub, "UpdateSpeaker", request, _speaker)


def _speaker(response: Any) -> Speaker:
    return messages.speaker(response.speaker)


def _with_failures(response: speaker_pb2.GetSpeakerResponse) -> Speaker:
    failed = messages.failed_verifications(response.failed_verifications)
    return replace(messages.speaker(response.speaker), failed_verifications=failed)


def _speakers(response: speaker_pb2.ListSpeakersResponse) -> list[Speaker]:
    return list(map(messages.speaker, response.speakers))


def _page(response: speaker_pb2.ListSpeakersResponse) -> tuple[list[Speaker], str]:
    return _speakers(response), response.next_page_token


def _migration(response: speaker_pb2.GetMigrationResponse) -> Migration:
    return Migration(
        response.model_id,
        response.previous_model_id,
        response.moved,
        response.waiting,
        response.begun,
        response.stranded,
    )


def _receipt(response: speaker_pb2.DeleteSpeakerResponse) -> Receipt:
    return messages.receipt(response.receipt)


def _as_json(response: speaker_pb2.ExportSpeakerResponse) -> dict[str, Any]:
    return MessageToDict(response, preserving_proto_field_name=True)
