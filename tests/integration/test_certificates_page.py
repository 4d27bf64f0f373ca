"""docs/operate/certificates.md: its commands make certificates that both sides accept."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT

PAGE = (ROOT / "docs" / "operate" / "certificates.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def run(block: str, folder: Path, *, leave_out: str = "") -> str:
    """Run a block of the page in a folder, without the lines that contain `leave_out`."""
    lines = [line for line in block.splitlines() if not leave_out or leave_out not in line]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "\n".join(["set -e", *lines])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (block, done.stdout, done.stderr)
    return done.stdout


def test_the_commands_make_certificates_that_server_and_client_accept(tmp_path: Path) -> None:
    authority, certificate, look, serve, client = BLOCKS
    run(authority, tmp_path)
    run(certificate, tmp_path)
    shown = run(look, tmp_path)
    assert "tls.crt: OK" in shown
    assert "DNS:voice.bank.example, DNS:localhost, IP Address:127.0.0.1" in shown
    with LocalServer(
        store=f"sqlite:///{tmp_path / 'sayso.db'}",
        tls_certificate=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.key",
    ) as server:
        here = serve.replace("localhost:50051", server.address.replace("127.0.0.1", "localhost"))
        assert run(here, tmp_path, leave_out="sayso serve") == "ready\n"
    run(client, tmp_path, leave_out="sayso health")
    with LocalServer(
        store=f"sqlite:///{tmp_path / 'sayso.db'}",
        tls_certificate=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.key",
        tls_client_ca=tmp_path / "ca.crt",
        keys=tmp_path / "keys.json",
    ) as server:
        here = client.replace("localhost:50051", server.address.replace("127.0.0.1", "localhost"))
        (health,) = [line for line in here.splitlines() if "sayso health" in line]
        assert run(health, tmp_path) == "ready\n"
