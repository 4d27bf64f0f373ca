"""docs/integrate/client.md tells what there is."""

import inspect
import re
from pathlib import Path

from sayso import Client, SaysoError, SettingsError, errors
from sayso.blocking.client import Groups, Speakers

PAGE = (Path(__file__).parents[2] / "docs" / "integrate" / "client.md").read_text()


def read_rows(heading: str) -> list[list[str]]:
    """The cells of the table below a row of headings."""
    table = PAGE.partition(f"{heading}\n")[2].partition("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]


def test_it_lists_every_error_with_its_code() -> None:
    told = {
        name.strip("`"): code.strip("`")
        for name, code, _ in read_rows("| class | gRPC code | what to do |")
    }
    kinds = dict(inspect.getmembers(errors, inspect.isclass))
    codes = {name: kind.code.name for name, kind in kinds.items() if issubclass(kind, SaysoError)}
    assert told.keys() == codes.keys()
    plain = told.keys() - {SaysoError.__name__, SettingsError.__name__}
    assert {name: told[name] for name in plain} == {name: codes[name] for name in plain}


def test_it_lists_every_attribute_of_an_error() -> None:
    told = {name for row in read_rows("| attribute of an error | |") for name in row[0].split(", ")}
    assert {name.strip("`") for name in told} == {*vars(SaysoError("")), "field"}


def test_its_methods_exist() -> None:
    rows = "\n".join(row[0] for row in read_rows("| method | answers |"))
    for section, kind in (("speakers", Speakers), ("groups", Groups)):
        (names,) = re.findall(rf"^`{section}(\..*)$", rows, re.MULTILINE)
        assert all(hasattr(kind, name) for name in re.findall(r"\.(\w+)", names))
    names = ", ".join(line for line in rows.splitlines() if "." not in line)
    public = {name for name in vars(Client) if name[0] != "_"}
    assert set(re.findall(r"\w+", names)) == public - {"close"}
