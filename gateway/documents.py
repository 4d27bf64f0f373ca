"""JSON from outside, read within limits."""

import json
import re
from typing import Any

_MAX_DEPTH = 64
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[{\]}]")


def parse_json(document: str | bytes) -> Any:
    """Parse a document of JSON in UTF-8; raises `ValueError` if it is none, or nests too deeply."""
    return json.loads(require_shallow(document))


def require_shallow(document: str | bytes) -> str:
    """Return the document's text; raises `ValueError` if it nests more than 64 levels deep.

    Python's parser goes as deep as the interpreter allows, and whatever runs down there, such as
    the finalizers of other objects, fails for want of stack.
    """
    text = document if isinstance(document, str) else document.decode()
    if text.count("[") + text.count("{") <= _MAX_DEPTH:  # as nearly always, and quick to see
        return text
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it nests more than {_MAX_DEPTH} levels deep")
    return text
