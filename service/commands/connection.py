"""Connect client commands to a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from sayso import Client

from service.commands.access import Access
from service.commands.terminal import one_line_errors


@contextmanager
def connect(server: str, *, timeout_s: float = 30.0) -> Iterator[Client]:
    """A connected client; an error that the user can act on becomes one line and exit status 2."""
    with one_line_errors(), Access.read().client(server, timeout_s=timeout_s) as sayso:
        yield sayso
