"""Clients of the server, one for each credential in use."""

import contextlib
from collections.abc import AsyncIterator, Callable

from sayso import AsyncClient


class Clients:
    """Shares a client among the calls of one credential, and closes it after the last of them.
    `own_credential` is the gateway's, shown for None."""

    def __init__(
        self, open_client: Callable[[str | None], AsyncClient], own_credential: str = ""
    ) -> None:
        self.own_credential = own_credential
        self._open = open_client
        self._used: dict[str | None, tuple[AsyncClient, int]] = {}

    @contextlib.asynccontextmanager
    async def use(self, credential: str | None) -> AsyncIterator[AsyncClient]:
        """The client that shows this credential; raises `SettingsError` if it would leave this
        machine in plaintext."""
        client, users = self._used.get(credential) or (self._open(credential), 0)
        self._used[credential] = client, users + 1
        try:
            yield client
        finally:
            client, users = self._used.pop(credential)
            if users > 1:
                self._used[credential] = client, users - 1
            else:
                await client.close()
