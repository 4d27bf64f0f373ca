"""SECURITY.md and the documents on threats and deploying name what there is."""

import re
from pathlib import Path

import pytest
import typer.main

from service.access import ROLES
from service.commands.application import app
from tests.support.deployed_settings import unknown

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "SECURITY.md", ROOT / "docs" / "threats.md", ROOT / "docs" / "deploy.md"]
COMMAND = re.compile(r"`sayso ([a-z-]+)(?: ([a-z-]+))?")

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@documents
def test_its_settings_exist(path: Path) -> None:
    assert unknown(path.read_text()) == set()


@documents
def test_its_links_and_files_are_there(path: Path) -> None:
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    files = re.findall(r"`((?:deploy|service|tests|docs)/[\w./-]+)`", text)
    assert all((path.parent / link).exists() for link in links)
    assert all((ROOT / file).exists() for file in files)


@documents
def test_its_commands_exist(path: Path) -> None:
    group = typer.main.get_group(app)
    context = typer.Context(group)
    for name, sub in COMMAND.findall(path.read_text()):
        command = group.get_command(context, name)
        assert command is not None, f"sayso {name}"
        below = getattr(command, "commands", {})
        assert not (sub and below) or sub in below, f"sayso {name} {sub}"


def test_what_the_threats_say_of_roles_is_so() -> None:
    """Each method that the document tells a role of."""
    roles = {name.rpartition("/")[2]: role.value for name, role in ROLES.items()}
    said = {"Embed": "analyze", "ListSpeakers": "enrol", "GetSpeaker": "verify"}
    text = (ROOT / "docs" / "threats.md").read_text()
    assert all(name in text for name in said)
    assert said.items() <= roles.items()
    assert "/sayso.v1.VerificationService/Embed" in ROLES


def test_it_says_that_spoofing_is_not_detected() -> None:
    for name in ("SECURITY.md", "docs/threats.md"):
        text = (ROOT / name).read_text().lower()
        assert re.search(r"no liveness|not detect recordings or synthetic", text)
