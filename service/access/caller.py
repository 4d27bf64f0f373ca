"""The caller of the current call: its tenant and roles, as its credential grants them."""

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

    `credential` identifies what was presented, for the audit trail: `key:<id>`,
    `token:<subject>` or `certificate:<name>`; never a secret.
    """

    tenant: str
    roles: frozenset[Role]
    credential: str


ANYONE = Caller("default", frozenset(Role), "none")
"""Every caller of a server that asks for no credential."""

_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """The caller of this call; raises `LookupError` outside one, as no tenant may be assumed."""
    caller = _current.get()
    if caller is None:
        raise LookupError("no call is in progress here, so there is no caller")
    return caller


@contextmanager
def use_caller(caller: Caller) -> Iterator[None]:
    """Set the current caller of this task, and of tasks started inside.

    A garbage-collected generator may exit this in another context than it entered.
    """
    previous = _current.get()
    _current.set(caller)
    try:
        yield
    finally:
        _current.set(previous)


def is_tenant(name: str) -> bool:
    """Whether `name` may name a tenant: 1 to 64 of letters, digits, `.`, `_`, `-`."""
    return _TENANT.fullmatch(name) is not None
