"""Where the interfaces of ended services are answered, and by whose keys."""

from urllib.parse import urlsplit

from starlette.routing import BaseRoute, Route

from gateway.calls import Calls
from gateway.clients import Clients
from gateway.secret_file import read_secrets
from gateway.settings import Settings
from gateway.shims import azure
from gateway.shims.voice_id import AccessKey, VoiceId


def list_routes(settings: Settings, calls: Calls, clients: Clients) -> list[BaseRoute]:
    """The routes of those that are switched on; raises `SettingsError` for an unfit file."""
    routes: list[BaseRoute] = []
    if settings.azure:
        routes += azure.list_routes(clients, settings.azure_group)
    if settings.voice_id_keys is not None:
        words = "access-key-id secret-access-key server-key"
        keys = {
            key_id: AccessKey(secret, credential)
            for key_id, secret, credential in read_secrets(settings.voice_id_keys, words=words)
        }
        public_host = urlsplit(settings.public_url).netloc
        shim = VoiceId(calls, clients, keys, public_host=public_host)
        routes.append(Route("/", shim.answer, methods=["POST"]))
    return routes
