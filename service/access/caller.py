"""Who calls: the tenant and the roles, known from the credential for as long as a call lasts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from service.access.roles import Role

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    `credential` names what it showed, for the audit trail: `key:<id>`, `token:<subject>` or
    `certificate:<name>`; never a secret.
    """

    tenant: str
    roles: frozenset[Role]
    credential: str


ANYONE = Caller("default", frozenset(Role), "none")
"""Every caller of a server that asks for no credential."""

_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """Who makes this call; raises `LookupError` outside one, where no tenant may be assumed."""
    caller = _current.get()
    if caller is None:
        raise LookupError("no call is in progress here, so there is no caller")
    return caller


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Makes `caller` the current one of this task, and of the tasks that it starts, while inside.

    May be left in another context than it was entered in, as a generator that is collected is.
    """
    before = _current.get()
    _current.set(caller)
    try:
        yield
    finally:
        _current.set(before)


def is_tenant(name: str) -> bool:
    """Whether `name` may name a tenant: 1 to 64 of letters, digits, `.`, `_`, `-`."""
    return _TENANT.fullmatch(name) is not None
