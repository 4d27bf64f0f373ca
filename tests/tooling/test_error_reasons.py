"""The page of errors lists every reason once, with a status that it can come with."""

import re
from pathlib import Path

import grpc

from service import errors
from service.errors import ErrorReason, SaysoError

PAGE = Path(__file__).parents[2] / "docs/integrate/errors.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \|", re.M)


def test_the_page_has_a_row_for_every_reason() -> None:
    assert sorted(reason for reason, _ in ROW.findall(PAGE.read_text())) == sorted(ErrorReason)


def test_the_rows_have_the_status_of_the_class_that_has_the_reason() -> None:
    codes = dict(ROW.findall(PAGE.read_text()))
    for kind in vars(errors).values():
        on_the_wire = isinstance(kind, type) and issubclass(kind, SaysoError)
        if on_the_wire and not issubclass(kind, errors.StartupError):
            assert codes[kind.reason] == kind.code.name, kind
    assert all(hasattr(grpc.StatusCode, code) for code in codes.values())
