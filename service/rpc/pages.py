"""Pages of a list: how many at once, and the opaque token that says where the next one begins."""

import base64

from service.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def parse_page_size(page_size: int) -> int:
    """Return the page size to use; 0 stands for the default."""
    if page_size > MAX_PAGE_SIZE:
        raise InvalidArgument(f"must be at most {MAX_PAGE_SIZE}", field="page_size")
    return page_size or DEFAULT_PAGE_SIZE


_DESCENDING = "\0"
"""Begins a token of a descending list; no name begins so."""


def encode_token(after: str | None, *, descending: bool = False) -> str:
    """Encode the token of the next page; empty on the last page."""
    if after is None:
        return ""
    text = _DESCENDING + after if descending else after
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def decode_token(page_token: str, *, descending: bool = False) -> str | None:
    """Return where the page begins, None for the first; raises `InvalidArgument`, also for a token
    of a list in the opposite order."""
    if not page_token:
        return None
    try:
        after = base64.urlsafe_b64decode(page_token).decode()
    except ValueError as error:  # not ASCII, not base64, or not UTF-8 inside
        raise InvalidArgument(
            "is not one that this server gave; start from the first page", field="page_token"
        ) from error
    if after.startswith(_DESCENDING) != descending:
        raise InvalidArgument(
            "is of a list in the opposite order; start from the first page", field="page_token"
        )
    return after.removeprefix(_DESCENDING)
