"""How client commands reach a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.client import Client
from service.commands.access import Access
from service.commands.terminal import one_line_errors


@contextmanager
def connected(server: str, *, timeout_s: float = 30.0) -> Iterator[Client]:
    """A client while inside; an error that the user can act on is one line and exit status 2."""
    with one_line_errors(), Access.read().client(server, timeout_s=timeout_s) as sayso:
        yield sayso
