"""`sayso groups`: named groups of speakers, for identification and screening."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sayso import Group

from service.commands.options import LOCAL, GroupName, Server, SpeakerIds, connect
from service.commands.terminal import Json, out, print_json, say

app = typer.Typer(help="Make groups of speakers, for identify.", no_args_is_help=True)


@app.command("create")
def create_group(
    name: GroupName,
    server: Server = LOCAL,
    description: Annotated[str, typer.Option(help="For people, at most 256 characters.")] = "",
    as_json: Json = False,
) -> None:
    """Make an empty group.

    Example: sayso groups create fraud --description "confirmed cases"
    """
    with connect(server) as sayso:
        group = sayso.groups.create(name, description)
    _print_change("created", group, as_json=as_json)


@app.command("list")
def list_groups(server: Server = LOCAL, as_json: Json = False) -> None:
    """List the groups, in the order of their names.

    Example: sayso groups list --json
    """
    with connect(server) as sayso:
        if as_json:
            for group in sayso.groups.list():
                print_json(group)
            return
        table = Table("group", "members", "description")
        for group in sayso.groups.list():
            table.add_row(escape(group.name), str(group.members), escape(group.description))
    out.print(table)


@app.command("get")
def get_group(name: GroupName, server: Server = LOCAL, as_json: Json = False) -> None:
    """Show one group: how many speakers are in it, and its description.

    Example: sayso groups get fraud
    """
    with connect(server) as sayso:
        group = sayso.groups.get(name)
    if as_json:
        print_json(group)
    else:
        say(f"{group.name}: {group.members} members; {group.description or 'no description'}")


@app.command("describe")
def describe_group(
    name: GroupName,
    description: Annotated[str, typer.Argument(help="For people, at most 256 characters.")],
    server: Server = LOCAL,
    as_json: Json = False,
) -> None:
    """Replace the description of a group.

    Example: sayso groups describe fraud "confirmed cases of this year"
    """
    with connect(server) as sayso:
        group = sayso.groups.describe(name, description)
    _print_change("described", group, as_json=as_json)


@app.command("delete")
def delete_group(name: GroupName, server: Server = LOCAL, as_json: Json = False) -> None:
    """Remove a group; its speakers stay enrolled.

    Example: sayso groups delete fraud
    """
    with connect(server) as sayso:
        sayso.groups.delete(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        say("deleted")


@app.command("add")
def add_members(
    name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL, as_json: Json = False
) -> None:
    """Add enrolled speakers to a group.

    Example: sayso groups add fraud c-1041 c-2203
    """
    with connect(server) as sayso:
        sayso.groups.add_members(name, speaker_ids)
        group = sayso.groups.get(name)
    _print_change("added", group, as_json=as_json)


@app.command("remove")
def remove_members(
    name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL, as_json: Json = False
) -> None:
    """Take speakers out of a group; they stay enrolled.

    Example: sayso groups remove fraud c-2203
    """
    with connect(server) as sayso:
        sayso.groups.remove_members(name, speaker_ids)
        group = sayso.groups.get(name)
    _print_change("removed", group, as_json=as_json)


@app.command("members")
def list_members(name: GroupName, server: Server = LOCAL, as_json: Json = False) -> None:
    """Print the ids of a group's speakers, one a line.

    Example: sayso groups members fraud
    """
    with connect(server) as sayso:
        for speaker_id in sayso.groups.members(name):
            if as_json:
                print_json({"speaker_id": speaker_id})
            else:
                say(speaker_id)


def _print_change(what: str, group: Group, *, as_json: bool) -> None:
    if as_json:
        print_json(group)
    else:
        say(what)
