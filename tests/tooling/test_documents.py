"""Pages name files, commands and roles that exist; test_links.py holds their links."""

import re
from pathlib import Path

import pytest
import typer.main

from service.access import ROLES
from service.commands.application import app
from service.decisions.named_policies import NamedPolicies

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"`sayso ([a-z-]+)(?: ([a-z-]+))?")

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_its_files_exist(path: Path) -> None:
    files = re.findall(r"`((?:deploy|service|tests|docs)/[\w./-]+)`", path.read_text())
    assert [file for file in files if not (ROOT / file).exists()] == []


@documents
def test_its_commands_exist(path: Path) -> None:
    group = typer.main.get_group(app)
    context = typer.Context(group)
    for name, subcommand in COMMAND.findall(path.read_text()):
        command = group.get_command(context, name)
        assert command is not None, f"sayso {name}"
        subcommands = getattr(command, "commands", {})
        assert not (subcommand and subcommands) or subcommand in subcommands, (
            f"sayso {name} {subcommand}"
        )


def test_the_table_of_roles_names_every_method_under_its_role() -> None:
    text = (ROOT / "docs" / "security" / "access.md").read_text()
    table = text.partition("| role | may call |\n|---|---|\n")[2].partition("\n\n")[0]
    listed = {
        (row.split("`")[1], name)
        for row in table.splitlines()
        for name in re.findall(
            r"\b[A-Z][a-z]+[A-Z]\w+\b|\b(?:Verify|Identify|Embed|Compare|Enroll)\b", row
        )
    }
    assert listed == {(role.value, name.rpartition("/")[2]) for name, role in ROLES.items()}


def test_the_policies_of_the_page_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "integrate" / "policies.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "policies.toml"
    file.write_text(example)
    payments = NamedPolicies.read(file).get("payments")
    assert payments is not None
    assert payments.watchlists == ("fraud",)


def test_methods_need_the_roles_that_the_threats_name() -> None:
    roles = {name.rpartition("/")[2]: role.value for name, role in ROLES.items()}
    text = (ROOT / "docs" / "security" / "threats.md").read_text()
    needed = dict(re.findall(r"`(\w+)`[*| ]+needs `(\w+)`", text))
    assert needed
    assert needed.items() <= roles.items()
