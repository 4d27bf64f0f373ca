"""The table of roles is complete, and names nothing that is not there."""

from pathlib import Path

from google.protobuf import descriptor_pool
from sayso.v1 import call_pb2, event_pb2, group_pb2, server_pb2, speaker_pb2, verification_pb2

from service.access import ROLES, Role

ROOT = Path(__file__).resolve().parents[3]
MODULES = (speaker_pb2, verification_pb2, group_pb2, call_pb2, event_pb2, server_pb2)


def rpcs() -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_rpc_has_a_role_and_every_entry_an_rpc() -> None:
    assert set(ROLES) == rpcs()


def test_no_file_with_services_is_forgotten() -> None:
    """A service of a proto file that `MODULES` lacks would have no role, and no test."""
    pool = descriptor_pool.Default()
    files = {f"sayso/v1/{path.name}" for path in (ROOT / "protos/sayso/v1").glob("*.proto")}
    serving = {name for name in files if pool.FindFileByName(name).services_by_name}
    assert serving == {module.DESCRIPTOR.name for module in MODULES}


def test_a_key_for_verification_neither_lists_nor_changes() -> None:
    allowed = {name.rpartition("/")[2] for name, role in ROLES.items() if role is Role.VERIFY}
    writing = (
        "Enroll",
        "OptOut",
        "OptIn",
        "Create",
        "Update",
        "Delete",
        "Add",
        "Remove",
        "Undo",
        "Confirm",
        "Export",
    )
    assert not [name for name in allowed if name.startswith((*writing, "ListSpeakers"))]
    assert ROLES["/sayso.v1.SpeakerService/ExportSpeaker"] is Role.ADMIN
