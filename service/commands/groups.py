"""`sayso groups`: named groups of speakers, for identification and screening."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.commands.options import LOCAL, GroupName, Server, SpeakerIds, connect
from service.commands.terminal import out

app = typer.Typer(help="Make groups of speakers, for identify.", no_args_is_help=True)


@app.command("create")
def create_group(
    name: GroupName,
    server: Server = LOCAL,
    description: Annotated[str, typer.Option(help="For people, at most 256 characters.")] = "",
) -> None:
    """Makes an empty group."""
    with connect(server) as sayso:
        sayso.groups.create(name, description)
    out.print("created", highlight=False)


@app.command("list")
def list_groups(server: Server = LOCAL) -> None:
    """Lists the groups, in the order of their names."""
    table = Table("group", "members", "description")
    with connect(server) as sayso:
        for group in sayso.groups.list():
            table.add_row(escape(group.name), str(group.members), escape(group.description))
    out.print(table)


@app.command("delete")
def delete_group(name: GroupName, server: Server = LOCAL) -> None:
    """Removes a group; its speakers stay enrolled."""
    with connect(server) as sayso:
        sayso.groups.delete(name)
    out.print("deleted", highlight=False)


@app.command("add")
def add_members(name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL) -> None:
    """Adds enrolled speakers to a group."""
    with connect(server) as sayso:
        sayso.groups.add_members(name, speaker_ids)
    out.print("added", highlight=False)


@app.command("remove")
def remove_members(name: GroupName, speaker_ids: SpeakerIds, server: Server = LOCAL) -> None:
    """Takes speakers out of a group; they stay enrolled."""
    with connect(server) as sayso:
        sayso.groups.remove_members(name, speaker_ids)
    out.print("removed", highlight=False)


@app.command("members")
def list_members(name: GroupName, server: Server = LOCAL) -> None:
    """Prints the ids of a group's speakers, one a line."""
    with connect(server) as sayso:
        for speaker_id in sayso.groups.members(name):
            out.print(escape(speaker_id), highlight=False, soft_wrap=True)
