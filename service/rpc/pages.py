"""Pages of a list: how many at once, and the opaque token that says where the next one begins."""

import base64

from service.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


def parse_page_size(page_size: int) -> int:
    """Returns the page size to use; 0 stands for the default."""
    if page_size > MAX_PAGE_SIZE:
        raise InvalidArgument(f"must be at most {MAX_PAGE_SIZE}", field="page_size")
    return page_size or DEFAULT_PAGE_SIZE


def encode_token(after: str | None) -> str:
    """Encodes the token of the next page; empty on the last page."""
    return "" if after is None else base64.urlsafe_b64encode(after.encode()).decode("ascii")


def decode_token(page_token: str) -> str | None:
    """Returns where the page begins, None for the first; raises `InvalidArgument`."""
    try:
        return base64.urlsafe_b64decode(page_token).decode() if page_token else None
    except ValueError as error:  # not ASCII, not base64, or not UTF-8 inside
        raise InvalidArgument(
            "is not one that this server gave; start from the first page", field="page_token"
        ) from error
