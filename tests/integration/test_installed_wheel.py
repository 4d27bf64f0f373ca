"""The wheel, installed into an empty environment, serves the model that ships with it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sayso_server import ROOT

pytestmark = pytest.mark.slow  # it installs some hundred megabytes

AUDIO = ROOT / "demo" / "audio" / "slt"


def run(*command: object, folder: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without what would make the checkout importable or configure a server."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith("SAYSO_")
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that holds the wheel, and what the Makefile installs with it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("sayso-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    install = (*pip, "--python", folder / "venv" / "bin" / "python", "install")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(*install, *constraints, wheel, folder=folder)
    run(*install, *constraints, "--no-deps", "silero-vad", folder=folder)
    return folder / "venv"


@pytest.fixture
def address(installed: Path, tmp_path: Path) -> Iterator[str]:
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    program = str(installed / "bin" / "sayso")
    command = [program, "serve", "--listen", "127.0.0.1:0", "--store", store]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdout is not None
        told = re.search(r"serving on (\S+)", server.stdout.readline())
        assert told, (tmp_path / "log").read_text()
        yield told[1]
        server.terminate()
        assert server.wait(timeout=30) == 0


def test_it_serves_a_call(installed: Path, address: str, tmp_path: Path) -> None:
    sayso = installed / "bin" / "sayso"
    of_server = ("--server", address)
    run(sayso, "enroll", "slt", AUDIO / "enroll-1.flac", *of_server, folder=tmp_path)
    verified = run(sayso, "verify", "slt", AUDIO / "verify-1.flac", *of_server, folder=tmp_path)
    assert "ACCEPTED" in verified
    run(sayso, "health", *of_server, folder=tmp_path)


def test_nothing_of_it_comes_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import service, service.settings as s; print(service.__path__[0], s.SHIPPED_MODEL)"
    found = run(installed / "bin" / "python", "-c", program, folder=tmp_path).split()
    assert all(Path(path).is_relative_to(installed) for path in found)


def test_serving_needs_no_training_framework(installed: Path, tmp_path: Path) -> None:
    program = (
        "from importlib.metadata import distributions;"
        "print(*(found.metadata['Name'].lower() for found in distributions()))"
    )
    names = run(installed / "bin" / "python", "-c", program, folder=tmp_path).split()
    assert "sayso" in names
    assert not {"torch", "torchaudio", "librosa", "matplotlib", "scikit-learn"} & set(names)
