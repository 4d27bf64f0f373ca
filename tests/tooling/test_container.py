"""The image and what it is composed with; no Docker engine is needed to read them."""

import re
from fnmatch import fnmatch
from pathlib import Path

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PORT = Settings.model_fields["listen"].default.split(":")[-1]


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
        if instruction == "FROM":
            parent, _, name = arguments.split()
            made[name] = list(made.get(parent, []))
        else:
            made[name].append((instruction, arguments))
    return made


def test_it_builds_for_cpu_and_for_cuda_and_cpu_is_the_default() -> None:
    assert {"cpu", "cuda"} <= stages().keys()
    assert list(stages())[-1] == "cpu"


def test_it_installs_no_training_framework() -> None:
    installs = [arguments for name, arguments in instructions() if name == "RUN"]
    assert not any(re.search(r"torch|librosa|\btrain|\bdev\b", install) for install in installs)
    silero = [install for install in installs if "silero-vad" in install]
    assert silero
    assert all(re.search(r"--no-deps silero-vad", install) for install in silero)
    assert all("-c constraints.txt" in line for line in installs if "pip install" in line)


def test_each_image_runs_as_a_user_and_says_its_health() -> None:
    for target in ("cpu", "cuda"):
        last = dict(stages()[target])
        assert last["USER"].split(":")[0] not in ("root", "0")
        assert 'CMD ["sayso", "health"]' in last["HEALTHCHECK"]
        assert last["EXPOSE"] == PORT


def test_its_settings_exist() -> None:
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "compose.yaml").read_text()
    names = {name.lower() for name in re.findall(r"\bSAYSO_([A-Z_]+)[=:]", text)}
    assert names
    assert names <= Settings.model_fields.keys()


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


def test_the_shared_store_is_on_disk_before_it_answers() -> None:
    compose = (ROOT / "compose.yaml").read_text()
    assert re.search(r'"--appendonly", "yes", "--appendfsync", "always"', compose)
