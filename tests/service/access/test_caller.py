import asyncio
import contextvars

import pytest

from service.access import ANYONE, Caller, Role, current, is_tenant, use_caller

BANK = Caller("bank", frozenset({Role.VERIFY}), "key:1")


def test_outside_a_call_there_is_no_caller() -> None:
    with pytest.raises(LookupError):
        current()
    with use_caller(BANK):
        assert current() is BANK
        with use_caller(ANYONE):
            assert current() is ANYONE
        assert current() is BANK
    with pytest.raises(LookupError):
        current()


async def test_tasks_of_a_call_have_its_caller_and_others_do_not() -> None:
    async def whose() -> str:
        await asyncio.sleep(0)
        return current().tenant

    async def call(caller: Caller) -> list[str]:
        with use_caller(caller):
            return await asyncio.gather(*(whose() for _ in range(3)))

    other = Caller("other", frozenset(), "key:2")
    assert await asyncio.gather(call(BANK), call(other)) == [["bank"] * 3, ["other"] * 3]


def test_may_be_left_in_another_context() -> None:
    inside = use_caller(BANK)
    contextvars.copy_context().run(inside.__enter__)
    inside.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["default", "bank-1", "A.b_c", "x" * 64])
def test_names_of_tenants(name: str) -> None:
    assert is_tenant(name)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "ä", "a\n", "x" * 65, "{t}"])
def test_no_names_of_tenants(name: str) -> None:
    assert not is_tenant(name)
