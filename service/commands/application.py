"""The commands of `sayso` as one application; `service.__main__` runs it."""

import importlib
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

COMMANDS = MappingProxyType(
    {
        "serve": ("serve", "serve"),
        "enroll": ("enroll", "enroll"),
        "verify": ("voices", "verify"),
        "identify": ("voices", "identify"),
        "health": ("status", "health"),
        "info": ("status", "info"),
        "drift": ("drift", "drift"),
        "speakers": ("speakers", "app"),
        "models": ("models", "app"),
        "groups": ("groups", "app"),
        "keys": ("keys", "app"),
        "tenants": ("tenants", "app"),
        "audit": ("audit", "app"),
    }
)
"""The module in `service.commands` and the function or group in it, by command name. A module is
imported only when its command runs."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"service.commands.{module}"), name)
        parent = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        parent.callback()(_sayso)
        if isinstance(command, typer.Typer):
            parent.add_typer(command, name=cmd_name)
        else:
            parent.command(cmd_name)(command)
        group = get_command(parent)
        assert isinstance(group, TyperGroup)
        return group.commands[cmd_name]


app = typer.Typer(
    cls=_Commands,
    help="Voice verification: enroll a voice, then ask whether a caller is that voice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _sayso() -> None:
    """Makes Typer treat this as a group, although it has no commands of its own."""
