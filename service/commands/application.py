"""The commands of `sayso` as one application; `service.__main__` runs it."""

import importlib
import inspect
from types import MappingProxyType
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command

from service.commands.terminal import Version

COMMANDS = MappingProxyType(
    {
        "serve": ("serve", "serve"),
        "gateway": ("gateway", "app"),
        "enroll": ("enroll", "enroll"),
        "verify": ("voices", "verify"),
        "identify": ("voices", "identify"),
        "health": ("status", "health"),
        "info": ("status", "info"),
        "demo": ("demo.run", "demo"),
        "events": ("events", "events"),
        "drift": ("drift", "drift"),
        "speakers": ("speakers", "app"),
        "models": ("models", "app"),
        "tune": ("tune", "tune"),
        "migrate": ("migrate", "app"),
        "groups": ("groups", "app"),
        "keys": ("keys", "app"),
        "tenants": ("tenants", "app"),
        "audit": ("audit", "app"),
    }
)
"""The module in `service.commands` and the function or group in it, by command name. A module is
imported only when its command runs."""

_ALIASES = MappingProxyType({"model": "models"})


class _Commands(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
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
        found = group.commands[cmd_name]
        _prepare_help(found)
        return found


def _prepare_help(command: Any) -> None:
    """Join the lines of each paragraph of a command's help, so that only the terminal wraps them,
    and show brackets in its options' help as they are; the same for its subcommands."""
    for parameter in command.params:
        parameter.help = escape(parameter.help or "")
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            _prepare_help(each)


app = typer.Typer(name="sayso", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _sayso(version: Version = False) -> None:
    """Voice verification: enroll a voice, then ask whether a caller is that voice.

    Example: sayso verify alice call.wav
    """
