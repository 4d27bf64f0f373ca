"""Settings as an environment file: for `docker run --env-file`, systemd, or a shell."""

import shlex
from enum import Enum

from pydantic import SecretStr

from service.settings import Settings, list_settings
from service.store.redis.address import hide_password


def format_environment(settings: Settings) -> str:
    """Format every setting under its description: those that differ from their default as
    `NAME=value`, all others as a comment.

    A secret is never shown; a comment says that it is left out. Values with other characters than
    those of paths and addresses are quoted as a shell and systemd read them; Docker reads quotes as
    part of the value.
    """
    entries = []
    for name, setting in list_settings().items():
        line = _format_entry(f"SAYSO_{name.upper()}", setting.value_in(settings), setting.default)
        entries.append(f"# {setting.description}\n{line}\n")
    return "\n".join(entries)


def _format_entry(variable: str, value: object, default: object) -> str:
    text = _to_text(value)
    if isinstance(value, SecretStr):
        return f"# {variable} is set, and not shown" if text else f"# {variable}="
    if variable == "SAYSO_STORE" and (hidden := hide_password(text)) != text:
        return f"# {variable}={hidden}  (its password is not shown)"
    if value == default:
        return f"# {variable}={text}"
    return f"{variable}={shlex.quote(text)}"


def _to_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case SecretStr():
            return str(value)
    return str(value)
