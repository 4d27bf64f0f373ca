"""The role that each rpc needs, in one table; a test keeps it complete.

No role includes another: a privacy office may export without being able to enroll, and a telephony
node may verify without being able to list speakers. A credential names every role that it has.

Only `analyze` callers receive scores, because enough scores reveal the stored voiceprint.
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
