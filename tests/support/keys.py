"""API keys for a server under test."""

from datetime import UTC, datetime
from pathlib import Path

from service.access import Role, key_file
from service.access.keys import make_key


def create(path: Path, tenant: str, *roles: str) -> str:
    """A key in the key file `path`, which is made if it is missing."""
    key, entry = make_key(tenant, map(Role, roles), now=datetime.now(UTC), expires=None)
    key_file.change(path, lambda grants: (grants.replace(entry), None))
    return key
