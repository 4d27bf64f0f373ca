"""The interface to the master key: a file on this machine, or a service that never reveals it."""

from typing import Protocol


class Kms(Protocol):
    """Wraps data keys of 32 bytes; a wrapped key unwraps only in the context it was wrapped in.

    Every call raises Unavailable while the master key cannot be used, and for a key that it did
    not wrap in this context.
    """

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt `key` under the newest version of the master key."""
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt under the version of the master key that wrapped it."""
        ...

    async def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Encrypt the same data key under the newest version of the master key."""
        ...
