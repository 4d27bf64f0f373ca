"""JSON from outside is read to a depth of 64, whatever its strings hold."""

import pytest

from gateway.documents import parse_json


@pytest.mark.parametrize(
    "document",
    [
        "[" * 64 + "]" * 64,
        '{"a": ' * 64 + "1" + "}" * 64,
        "[" + "[]," * 100 + "[]]",
        '"' + "[" * 100 + '"',
        '["\\"' + "{" * 100 + '", 1]',
        '["\\\\", ' + "[" * 63 + "]" * 64,
    ],
    ids=len,
)
def test_what_is_shallow_is_read(document: str) -> None:
    parse_json(document)
    parse_json(document.encode())


@pytest.mark.parametrize(
    "document",
    ["[" * 65 + "]" * 65, '{"a": ' * 65, "[" * 60_000, '["\\\\", ' + "[" * 64 + "]" * 65],
    ids=len,
)
def test_what_nests_deeper_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="64 levels"):
        parse_json(document)


@pytest.mark.parametrize("document", [b"\xff\xfe[\x00", "", "[", '"', '"\\', "nul"])
def test_what_is_no_json_is_refused(document: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(document)
