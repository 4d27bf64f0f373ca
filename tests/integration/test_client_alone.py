"""The client works in an interpreter that can import nothing but gRPC, protobuf and the messages of
googleapis, and in an environment that holds its wheel alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.wheels import build_wheel, make_environment, run

NOTHING_ELSE = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"sayso", "grpc", "typing_extensions", "google"}  # gRPC imports typing_extensions

class NothingElse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        allowed = package in ALLOWED or package in sys.stdlib_module_names
        if not allowed:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, NothingElse())
"""

PROGRAM = f"""
import sys
from pathlib import Path

from sayso import Client, NotFound

audio = Path("{ROOT}/demo/audio/slt")
with Client(sys.argv[1]) as sayso:
    assert sayso.ready()
    assert sayso.enroll("alone", audio / "enroll-1.flac").stored
    print(sayso.verify("alone", audio / "verify-1.flac").outcome)
    *_, last = sayso.verify_stream("alone", [(audio / "verify-1.flac").read_bytes()])
    print(last.outcome)
    sayso.speakers.delete("alone")
    try:
        sayso.speakers.get("alone")
    except NotFound as error:
        print(error.code.name)
"""


PRINTED = ["ACCEPTED", "ACCEPTED", "NOT_FOUND"]


def test_it_enrolls_verifies_and_streams(sqlite_server: LocalServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_ELSE + PROGRAM, sqlite_server.address],
        cwd=ROOT / "client",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == PRINTED


@pytest.mark.slow  # it downloads and installs 30 megabytes
def test_its_wheel_alone_does(sqlite_server: LocalServer, tmp_path: Path) -> None:
    venv = make_environment(tmp_path, build_wheel(ROOT / "client", tmp_path))
    python = venv / "bin" / "python"
    printed = run(python, "-c", PROGRAM, sqlite_server.address, folder=tmp_path)
    assert printed.split() == PRINTED
    names = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    installed = set(run(python, "-c", names, folder=tmp_path).split())
    assert installed == {
        "sayso-client",
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
        "typing_extensions",
    }
