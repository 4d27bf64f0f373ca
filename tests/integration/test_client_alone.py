"""The client needs gRPC and protobuf: it works in an interpreter that can import nothing else, but
what gRPC itself imports."""

import subprocess
import sys

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT

PROGRAM = f"""
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

ALLOWED = {{"grpc", "grpc_health", "grpc_status", "google", "typing_extensions"}}
OURS = {{"sayso", "service"}}

class NothingElse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package not in ALLOWED | OURS | sys.stdlib_module_names:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, NothingElse())

from service.client import Client

audio = Path("{ROOT}/demo/audio/slt")
with Client(sys.argv[1]) as sayso:
    assert sayso.ready()
    assert sayso.enroll("alone", audio / "enroll-1.flac").stored
    print(sayso.verify("alone", audio / "verify-1.flac").outcome)
    *_, last = sayso.verify_stream("alone", [(audio / "verify-1.flac").read_bytes()])
    print(last.outcome)
    sayso.delete("alone")
"""


def test_it_enrolls_verifies_and_streams(sqlite_server: LocalServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, sqlite_server.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ACCEPTED", "ACCEPTED"]
