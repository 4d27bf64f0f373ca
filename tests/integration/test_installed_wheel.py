"""The wheels of the server and its client, installed into an empty environment, serve the model
that ships with them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sayso_server import ROOT
from tests.support.wheels import build_wheel, environment, install, make_environment, run

pytestmark = pytest.mark.slow  # it installs some hundred megabytes

AUDIO = ROOT / "demo" / "audio" / "slt"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that holds the wheels, and what `make` installs with them."""
    folder = tmp_path_factory.mktemp("wheel")
    wheels = [build_wheel(project, folder) for project in (ROOT / "client", ROOT)]
    venv = make_environment(folder, *wheels)
    install(venv, "--no-deps", "silero-vad")
    return venv


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


def test_it_has_the_demo(installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "bin" / "sayso", "demo", folder=tmp_path)
    assert "6 of 6 genuine calls accepted, 12 of 12 impostors rejected" in shown
    assert not list(tmp_path.iterdir())


def test_nothing_of_it_comes_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = (
        "import sayso, service, service.settings as settings;"
        "print(sayso.__path__[0], service.__path__[0], settings.SHIPPED_MODEL)"
    )
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


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("sayso-train describe small", "train"),
        ("sayso-export adopt resemblyzer --output model.onnx", "train"),
        ("sayso-evaluate scores scores.txt", "evaluation"),
    ],
)
def test_a_program_that_needs_an_extra_says_which(
    installed: Path, tmp_path: Path, command: str, extra: str
) -> None:
    program, *arguments = command.split()
    assert "Usage" in run(installed / "bin" / program, "--help", folder=tmp_path)
    ended = subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert re.fullmatch(
        rf"error: \w+ is not installed: pip install 'sayso\[{extra}\]'\n", ended.stderr
    )
