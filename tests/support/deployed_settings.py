"""Which `SAYSO_` names deployment files and documents may use."""

import re

from gateway import settings as gateway
from service.settings import OF_CLIENTS, list_settings, list_variables

DEFAULTS = list_settings()

_NAME = re.compile(r"\bSAYSO_[A-Z0-9_]+")


def find_unknown_names(text: str) -> set[str]:
    """Those in a text that neither the server, nor the gateway, nor client commands read;
    `SAYSO_LOCK_*` is all that begin so."""
    read = list_variables() | OF_CLIENTS | gateway.list_variables()
    return {
        name
        for name in set(_NAME.findall(text)) - read
        if not (name.endswith("_") and any(each.startswith(name) for each in read))
    }
