"""`Client` and `AsyncClient` have the same methods, with the same arguments and results."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from sayso import AsyncClient, Client
from sayso.aio.client import AsyncGroups, AsyncSpeakers
from sayso.blocking.client import Groups, Speakers

PAIRS = [(Client, AsyncClient), (Speakers, AsyncSpeakers), (Groups, AsyncGroups)]

both = pytest.mark.parametrize(("blocking", "awaited"), PAIRS)


def public_methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def read_signature(method: Callable[..., Any]) -> str:
    """Its signature, with the blocking kinds of iterables and generators for both."""
    signature = str(inspect.signature(method)).replace("Async", "")
    signature = re.sub(r"(Generator\[[\w.]+, None), None\]", r"\1]", signature)
    return re.sub(r"(collections\.abc\.Iterable\[[\w.]+\]) \| \1", r"\1", signature)


@both
def test_they_have_the_same_methods(blocking: type, awaited: type) -> None:
    assert public_methods(blocking).keys() == public_methods(awaited).keys()


@both
def test_the_methods_take_and_return_the_same(blocking: type, awaited: type) -> None:
    theirs = public_methods(awaited)
    for name, method in public_methods(blocking).items():
        assert read_signature(theirs[name]) == read_signature(method), name


def test_they_are_made_of_the_same_arguments() -> None:
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


@both
def test_every_method_is_documented(blocking: type, awaited: type) -> None:
    for kind in (blocking, awaited):
        methods = public_methods(kind)
        undocumented = [name for name, method in methods.items() if not method.__doc__]
        assert undocumented in ([], ["close"])


def test_the_sections_are_those_of_the_client() -> None:
    with Client() as client:
        sections = {name: type(part) for name, part in vars(client).items() if name[0] != "_"}
    assert sections == {"speakers": Speakers, "groups": Groups}
    sections = {name: type(part) for name, part in vars(AsyncClient()).items() if name[0] != "_"}
    assert sections == {"speakers": AsyncSpeakers, "groups": AsyncGroups}
