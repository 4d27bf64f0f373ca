"""`sayso`: run the server, and talk to one from the command line."""

import typer

from service.commands import (
    audit,
    drift,
    enroll,
    groups,
    keys,
    models,
    serve,
    speakers,
    status,
    tenants,
    voices,
)

app = typer.Typer(
    help="Voice verification: enrol a voice, then ask whether a caller is that voice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    serve.serve,
    enroll.enroll,
    voices.verify,
    voices.identify,
    status.health,
    status.info,
    drift.drift,
):
    app.command()(command)
for name, group in (
    ("speakers", speakers.app),
    ("models", models.app),
    ("groups", groups.app),
    ("keys", keys.app),
    ("tenants", tenants.app),
    ("audit", audit.app),
):
    app.add_typer(group, name=name)

if __name__ == "__main__":
    app()
