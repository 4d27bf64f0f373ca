"""`sayso health`: whether a server is ready, and why not.

Containers run it every few seconds: nothing here imports what only other commands need, such as
typer. Exit status 0 when the server is ready, 1 when it is not, 2 for a setting to correct.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

import sayso

from service.commands.access import Access
from service.errors import SaysoError

_DEFAULT_LISTEN = "127.0.0.1:50051"
_TIMEOUT_S = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where others listen


def main(arguments: Sequence[str]) -> int:
    """Print whether the server is ready, or why not, and return the exit status."""
    parser = argparse.ArgumentParser(
        "sayso health",
        description="Tells whether a server is ready, and why not; exit status 0 when it is.",
        epilog="Example: sayso health --server 127.0.0.1:50051",
    )
    parser.add_argument(
        "--server",
        default=os.environ.get("SAYSO_SERVER") or _find_own_address(),
        help="host:port [SAYSO_SERVER, else where SAYSO_LISTEN says, %(default)s]",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON: one object.")
    given = parser.parse_args(arguments)
    try:
        with Access.read().open_client(given.server, timeout_s=_TIMEOUT_S) as client:
            cause = client.why_not_ready()
    except (SaysoError, sayso.SaysoError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.json:
        sys.stdout.write(json.dumps({"ready": not cause, "cause": cause}) + "\n")
    else:
        sys.stdout.write(f"not ready: {cause}\n" if cause else "ready\n")
    return 1 if cause else 0


def _find_own_address() -> str:
    """Find the address at which this machine reaches a server with this environment."""
    host, _, port = os.environ.get("SAYSO_LISTEN", _DEFAULT_LISTEN).rpartition(":")
    return f"{_ANY_ADDRESS.get(host, host)}:{port}"
