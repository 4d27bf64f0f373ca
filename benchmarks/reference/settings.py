"""docs/settings.md: every setting with its default, its range and its meaning."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.settings import PREFIX
from gateway.settings import Settings as GatewaySettings
from service.settings import OF_CLIENTS, RETIRED, SHIPPED_MODEL, Settings, list_settings

HEADINGS = {
    "listen": "Server, model and store",
    "metrics_listen": "Metrics, logs and traces",
    "insecure": "Connections and callers",
    "jwt_issuer": "Tokens",
    "master_key_file": "Encryption at rest",
    "tenant_requests_per_s": "Quotas of a tenant",
    "speaker_comparisons_per_s": "How often voices are compared",
    "lock_after_failures": "Locks after failed verifications",
    "audit": "Audit trail",
    "max_audio_s": "Audio, calls and queues",
    "target_false_match_rate": "Decisions and enrollments",
    "require_consent": "Rules of enrollment",
    "expire_after_days": "Expiry",
    "adapt_margin_llr": "Adaptation",
    "move_margin_llr": "Migration to a new model",
    "sequential_false_match_rate": "Sequential test",
    "drain_s": "Shutdown",
}
"""The heading that stands before a setting."""

CLIENTS = {
    "SAYSO_SERVER": "host:port of the server; without it the commands ask `SAYSO_LISTEN`",
    "SAYSO_CREDENTIAL": "API key or token",
    "SAYSO_TLS": "`true`: TLS with the public roots that gRPC comes with",
    "SAYSO_CA": "PEM file of the roots that the server's certificate is checked against",
    "SAYSO_SERVER_NAME": "the name in the server's certificate, if it is not the address",
    "SAYSO_CLIENT_CERTIFICATE": "PEM file of a client certificate",
    "SAYSO_CLIENT_KEY": "PEM file of its key",
    "SAYSO_DEMO_AUDIO": "`sayso demo` only: a folder of your own recordings, one folder a speaker",
}
"""What the commands and the demo read, besides the server's own settings."""

GATEWAY = """\
[`sayso gateway`](integrate/gateway.md) reads these, and those of clients. The server ignores them.\
"""

INTRODUCTION = """\
# Settings

<!-- Written by `make reference` from service/settings.py. -->

You configure a server: every setting is an environment variable, read once when the server starts.
`sayso info` prints the values in force, `sayso info --env` a file to begin with. The server does
not start with a `SAYSO_` variable that it does not know, or that is empty: unset it instead. The
[index](README.md) leads to the page on each subject.

An llr is a natural-log likelihood ratio: 0 says that both explanations are equally likely, 3 that
"same speaker" is 20 times as likely, -3 the reverse. More words are in the [glossary](glossary.md).
"""


def render_page() -> str:
    """The whole page."""
    lines = [INTRODUCTION, *_list_sections()]
    lines += ["## Of the commands and clients", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {CLIENTS[name]} |" for name in CLIENTS if name in OF_CLIENTS]
    lines += [
        "",
        "The server ignores them.",
        "",
        *_list_gateway(),
        "## Retired",
        "",
        "| variable | why |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(RETIRED.items())]
    lines += ["", "They have no effect. The server warns about them and starts."]
    return "\n".join(lines) + "\n"


def _list_sections() -> Iterator[str]:
    limits = _read_limits()
    for name, setting in list_settings().items():
        if name in HEADINGS:
            if name != next(iter(HEADINGS)):
                yield ""
            yield from (
                f"## {HEADINGS[name]}",
                "",
                "| variable | default | meaning |",
                "|---|---|---|",
            )
        meaning = setting.description + limits[name]
        yield f"| `SAYSO_{name.upper()}` | {_show(setting.default)} | {meaning} |"
    yield ""


def _list_gateway() -> Iterator[str]:
    schema = GatewaySettings.model_json_schema()
    yield from ("## Of the gateway", "", GATEWAY, "")
    yield from ("| variable | default | meaning |", "|---|---|---|")
    for name, field in GatewaySettings.model_fields.items():
        if field.validation_alias is None:
            limits = _say_limits(schema["properties"][name], schema.get("$defs", {}))
            meaning = f"{field.description}{limits}"
            yield f"| `{PREFIX}{name.upper()}` | {_show(field.default)} | {meaning} |"
    yield ""


def _show(default: object) -> str:
    """A default as an operator would write it into the environment."""
    if default == SHIPPED_MODEL:
        return "the default model"
    if default is None or (value := _reveal(default)) == "":
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`" if abs(value) < 10**6 else f"`{value:.0f}`"
    return f"`{value}`"


def _reveal(default: object) -> Any:
    reveal = getattr(default, "get_secret_value", None)
    return reveal() if reveal else default


def _read_limits() -> Mapping[str, str]:
    """Range and choices of each setting, in words, by the name of its variable."""
    schema = Settings.model_json_schema()
    fields = dict(schema["properties"])
    for section in schema["$defs"].values():
        fields |= section.get("properties", {})
    definitions = schema["$defs"]
    return {name: _say_limits(fields[name], definitions) for name in list_settings()}


def _say_limits(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    for choice in (field, *field.get("anyOf", [])):
        resolved = {**choice, **definitions.get(Path(choice.get("$ref", "")).name, {})}
        if "enum" in resolved:
            return f" ({', '.join(f'`{one}`' for one in resolved['enum'])})"
        parts = (
            *([f"at least {resolved['minimum']:g}"] if resolved.get("minimum") else []),
            *(
                [f"above {resolved['exclusiveMinimum']:g}"]
                if "exclusiveMinimum" in resolved
                else []
            ),
            *([f"at most {resolved['maximum']:g}"] if "maximum" in resolved else []),
            *(
                [f"below {resolved['exclusiveMaximum']:g}"]
                if "exclusiveMaximum" in resolved
                else []
            ),
        )
        if parts:
            return f" ({', '.join(parts)})"
    return ""
