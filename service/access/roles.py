"""The role that each rpc needs, in one table; a test keeps it complete.

No role includes another: a privacy office may export without being able to enroll, and a telephony
node may verify without being able to list speakers. A credential names every role that it has.

Only `analyze` callers receive scores, because enough scores reveal the stored voiceprint.
"""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """What a credential may do; the value is how files, tokens and commands spell it.

    `Role("enrol")`, the earlier spelling, is `ENROLL`.
    """

    VERIFY = "verify"
    ENROLL = "enroll"
    ADMIN = "admin"
    ANALYZE = "analyze"
    CONFIRM = "confirm"
    WATCH = "watch"

    @classmethod
    def _missing_(cls, value: object) -> "Role | None":
        return cls.ENROLL if value == "enrol" else None


ROLES: Mapping[str, Role] = {
    "/sayso.v1.VerificationService/Verify": Role.VERIFY,
    "/sayso.v1.VerificationService/StreamingVerify": Role.VERIFY,
    "/sayso.v1.VerificationService/Identify": Role.VERIFY,
    "/sayso.v1.VerificationService/Embed": Role.ANALYZE,
    "/sayso.v1.VerificationService/Compare": Role.ANALYZE,
    "/sayso.v1.CallService/AnnounceCall": Role.VERIFY,
    "/sayso.v1.CallService/TakeCall": Role.VERIFY,
    "/sayso.v1.EventService/WatchEvents": Role.WATCH,
    "/sayso.v1.SpeakerService/GetSpeaker": Role.VERIFY,
    "/sayso.v1.ServerService/GetServerInfo": Role.VERIFY,
    "/sayso.v1.GroupService/GetGroup": Role.VERIFY,
    "/sayso.v1.GroupService/ListGroups": Role.VERIFY,
    "/sayso.v1.VerificationService/Enroll": Role.ENROLL,
    "/sayso.v1.VerificationService/StreamingEnroll": Role.ENROLL,
    "/sayso.v1.VerificationService/BatchEnroll": Role.ENROLL,
    "/sayso.v1.SpeakerService/ListSpeakers": Role.ENROLL,
    "/sayso.v1.SpeakerService/UpdateSpeaker": Role.ENROLL,
    "/sayso.v1.SpeakerService/OptOutSpeaker": Role.ENROLL,
    "/sayso.v1.SpeakerService/OptInSpeaker": Role.ENROLL,
    "/sayso.v1.SpeakerService/DeleteSpeaker": Role.ENROLL,
    "/sayso.v1.SpeakerService/UndoEnrollment": Role.ENROLL,
    "/sayso.v1.SpeakerService/ConfirmEnrollment": Role.CONFIRM,
    "/sayso.v1.GroupService/ListMembers": Role.ENROLL,
    "/sayso.v1.GroupService/AddMembers": Role.ENROLL,
    "/sayso.v1.GroupService/RemoveMembers": Role.ENROLL,
    "/sayso.v1.GroupService/CreateGroup": Role.ADMIN,
    "/sayso.v1.GroupService/UpdateGroup": Role.ADMIN,
    "/sayso.v1.GroupService/DeleteGroup": Role.ADMIN,
    "/sayso.v1.SpeakerService/GetMigration": Role.ADMIN,
    "/sayso.v1.SpeakerService/ExportSpeaker": Role.ADMIN,
    "/sayso.v1.SpeakerService/UnlockSpeaker": Role.ADMIN,
}
"""By the full name of the method, as gRPC spells it."""
