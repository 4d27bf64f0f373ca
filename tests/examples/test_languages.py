"""The examples in other languages do what their READMEs say, built by the tools of their own."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.access import Role
from tests.support import keys
from tests.support.certificates import LOCAL, Authority
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.wheels import environment

AUDIO = ROOT / "demo" / "audio"
TOOLS = {"node": ("node", "npm"), "go": ("go",), "java": ("java", "mvn")}
UNREACHABLE = re.compile(
    r".*(?:EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|dial tcp|no such host|i/o timeout"
    r"|Could not transfer artifact|Unknown host).*"
)
"""What the clients of the registries write if they reach none."""


@dataclass(frozen=True)
class Example:
    """A copy of an example, and the commands and the output of its README."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[str]:
        return self._read_block("sh")

    @property
    def printed(self) -> list[str]:
        return self._read_block("text")

    def run(self, command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env={**environment(), **self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self) -> None:
        built = self.run(self.commands[0])
        written = built.stdout + built.stderr
        if built.returncode and (reason := UNREACHABLE.search(written)):
            pytest.skip(f"its packages cannot be had: {reason[0].strip()}")
        assert built.returncode == 0, written

    def ask(self, task: str, recording: Path, **variables: str) -> tuple[int, list[str], str]:
        """Run the program on a recording of `slt`'s claim; exit status, lines, and the error."""
        program = self.commands[1].partition(" enroll ")[0]
        words = shlex.join([task, "slt", str(recording)])
        done = self.run(f"{program} {words}", **variables)
        return done.returncode, done.stdout.splitlines(), done.stderr

    def _read_block(self, kind: str) -> list[str]:
        readme = (self.folder / "README.md").read_text()
        (block,) = re.findall(rf"^```{kind}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
        return block.splitlines()


def list_files(folder: Path) -> list[Path]:
    """The files of a folder of the repository, without what was built there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [folder / line for line in listed.stdout.splitlines()]


def copy_example(language: str, folder: Path) -> Example:
    """Copy an example beside what it reads of the repository, with protoc on its path."""
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    for file in list_files(ROOT / "examples" / language):
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    for name in ("protos", "demo"):
        (folder / name).symlink_to(ROOT / name)
    protoc = folder / "tools" / "protoc"
    protoc.parent.mkdir()
    protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    return Example(
        folder / "examples" / language, {"PATH": f"{protoc.parent}:{environment()['PATH']}"}
    )


@pytest.mark.slow  # it downloads packages and compiles
@pytest.mark.parametrize("language", TOOLS)
def test_an_example_does_what_its_readme_says(language: str, tmp_path: Path) -> None:
    example = copy_example(language, tmp_path)
    example.build()
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with LocalServer(store=store) as server:
        check_readme(example, server)
        check_rejection_and_error(example, server)
    check_tls_and_key(example, store, tmp_path)


def check_readme(example: Example, server: LocalServer) -> None:
    _, *commands = example.commands
    answers = [example.run(command, SAYSO_SERVER=server.address) for command in commands]
    assert [answer.stderr for answer in answers] == ["", ""]
    assert "".join(answer.stdout for answer in answers).splitlines() == example.printed


def check_rejection_and_error(example: Example, server: LocalServer) -> None:
    def ask(task: str, recording: str) -> tuple[int, list[str], str]:
        return example.ask(task, AUDIO / recording, SAYSO_SERVER=server.address)

    status, lines, _ = ask("stream", "kal/verify-2.wav")
    assert status == 1
    assert lines[-1].endswith(" s: REJECTED WEAK")
    status, lines, error = ask("verify", "README.md")
    assert (status, lines, error.split()[1]) == (2, [], "UNREADABLE_AUDIO:")


def check_tls_and_key(example: Example, store: str, folder: Path) -> None:
    """Verify the speaker whom `check_readme` enrolled: without keys the tenant is `default`."""
    key_file = folder / "keys.json"
    key = keys.create(key_file, "default", Role.VERIFY)
    authority = Authority(folder)
    pair = authority.issue("server", LOCAL)
    settings = {"tls_certificate": pair.certificate, "tls_key": pair.key, "keys": key_file}
    call = AUDIO / "slt/verify-1.flac"
    with LocalServer(store=store, **settings) as server:
        port = server.address.rpartition(":")[2]
        reach = {"SAYSO_SERVER": f"localhost:{port}", "SAYSO_CA": str(authority.certificate)}
        status, lines, error = example.ask("verify", call, **reach, SAYSO_CREDENTIAL=key)
        assert (status, error) == (0, "")
        assert lines[0].endswith(" s: ACCEPTED STRONG")
        status, _, error = example.ask("verify", call, **reach)
        assert (status, error.split()[1]) == (2, "INVALID_CREDENTIAL:")
    status, _, error = example.ask(
        "verify", call, SAYSO_SERVER="voice.bank.example:50051", SAYSO_CREDENTIAL=key
    )
    assert (status, "in plaintext" in error) == (2, True)
