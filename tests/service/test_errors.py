from __future__ import annotations

import pytest

from service.errors import InvalidArgument, Overloaded, SaysoError, copy_for_caller


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("the server is at its limit", retry_after_s=2.0),
        InvalidArgument("is empty", field="audio"),
        OSError(28, "No space left on device"),
        ArithmeticError(),
    ],
)
def test_each_caller_has_an_exception_of_its_own(error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        own = copy_for_caller(raised)
    assert type(own) is type(error)
    assert own is not error
    assert (own.args, str(own), own.__dict__) == (error.args, str(error), error.__dict__)
    assert own.__traceback__ is None
    assert own.__cause__ is error


def test_its_status_is_the_same() -> None:
    own = copy_for_caller(Overloaded("later", retry_after_s=2.0))
    assert isinstance(own, SaysoError)
    assert own.code is Overloaded.code
