"""Which role each rpc needs: one table, complete by a test.

No role includes another: an office that answers subjects' requests may export without being able
to enrol, a telephony node verifies and cannot list whom there is. A credential names every role
that it has.

An answer holds scores only for `analyze`: enough of them tell the stored voice.
"""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """What a credential may do; the value is how files, tokens and commands spell it."""

    VERIFY = "verify"
    ENROL = "enrol"
    ADMIN = "admin"
    ANALYZE = "analyze"
    CONFIRM = "confirm"


ROLES: Mapping[str, Role] = {
    "/sayso.v1.VerificationService/Verify": Role.VERIFY,
    "/sayso.v1.VerificationService/StreamingVerify": Role.VERIFY,
    "/sayso.v1.VerificationService/Identify": Role.VERIFY,
    "/sayso.v1.VerificationService/Embed": Role.ANALYZE,
    "/sayso.v1.VerificationService/Compare": Role.ANALYZE,
    "/sayso.v1.SpeakerService/GetSpeaker": Role.VERIFY,
    "/sayso.v1.WatchlistService/ListGroups": Role.VERIFY,
    "/sayso.v1.VerificationService/Enroll": Role.ENROL,
    "/sayso.v1.VerificationService/BatchEnroll": Role.ENROL,
    "/sayso.v1.SpeakerService/ListSpeakers": Role.ENROL,
    "/sayso.v1.SpeakerService/UpdateSpeaker": Role.ENROL,
    "/sayso.v1.SpeakerService/DeleteSpeaker": Role.ENROL,
    "/sayso.v1.SpeakerService/UndoEnrollment": Role.ENROL,
    "/sayso.v1.SpeakerService/ConfirmEnrollment": Role.CONFIRM,
    "/sayso.v1.WatchlistService/ListMembers": Role.ENROL,
    "/sayso.v1.WatchlistService/AddMembers": Role.ENROL,
    "/sayso.v1.WatchlistService/RemoveMembers": Role.ENROL,
    "/sayso.v1.WatchlistService/CreateGroup": Role.ADMIN,
    "/sayso.v1.WatchlistService/DeleteGroup": Role.ADMIN,
    "/sayso.v1.SpeakerService/GetMigration": Role.ADMIN,
    "/sayso.v1.SpeakerService/ExportSpeaker": Role.ADMIN,
    "/sayso.v1.SpeakerService/UnlockSpeaker": Role.ADMIN,
}
"""By the full name of the method, as gRPC spells it."""
