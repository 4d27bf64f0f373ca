"""The banner: the settings and the model that a server was started with, as lines on a terminal
and one line of the log."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from service.access.tls import Certificates
from service.contract import Contract
from service.decisions.policy import make_server_policy
from service.decisions.thresholds import choose_server_threshold
from service.network import is_loopback
from service.settings import Settings
from service.store.redis.address import hide_password


def list_facts(settings: Settings, contract: Contract, address: str) -> dict[str, str]:
    """List what the banner says, by name, without secrets; it shows what a misspelled setting left
    open."""
    return {
        "listens on": address,
        "model": contract.model_id,
        "threshold": _describe_threshold(settings, contract),
        "store": hide_password(settings.store),
        "TLS": _describe_tls(settings),
        "callers": _describe_callers(settings, address),
        "voices": _describe_sealing(settings),
        "audit": str(settings.trail.folder or "none"),
        "lock": _describe_lock(settings),
        "limits of a tenant": _describe_limits(settings),
    }


def join_facts(facts: Mapping[str, str]) -> str:
    """Join the facts to one line, for the log."""
    return "; ".join(f"{name} {value}" for name, value in facts.items())


def make_table(facts: Mapping[str, str]) -> Table:
    """Make a table of the facts, for a terminal."""
    table = Table("", "", show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def _describe_threshold(settings: Settings, contract: Contract) -> str:
    if contract.calibration is None:
        return "NONE: the model is not calibrated, no call is verified"
    policy = make_server_policy(contract, settings.decisions)
    threshold = choose_server_threshold(policy, contract.calibration)
    return f"LLR {threshold.llr:.2f}, {threshold.description}"


def _describe_tls(settings: Settings) -> str:
    certificates = Certificates.from_files(settings.tls)
    if certificates is None:
        return "none"
    expires = datetime.fromtimestamp(certificates.expires_at(), UTC)
    kind = "mutual" if certificates.client_ca else "of the server"
    return f"{kind}, certificate until {expires:%Y-%m-%d}"


def _describe_callers(settings: Settings, address: str) -> str:
    sources = {"keys": settings.keys, "tokens": settings.jwks}
    if any(sources.values()):
        return "who show " + " or ".join(name for name, path in sources.items() if path)
    return "ANYONE of this machine" if is_loopback(address) else "ANYONE"


def _describe_sealing(settings: Settings) -> str:
    if settings.master_key.vault_address:
        return "sealed by Vault"
    if settings.master_key.file or settings.master_key.keys.get_secret_value():
        return "sealed by a master key"
    return "not sealed"


def _describe_lock(settings: Settings) -> str:
    count = settings.lockout.failures
    return f"after {count} failures" if count else "none"


def _describe_limits(settings: Settings) -> str:
    limits = {
        "calls a second": settings.tenant_quota.requests_per_s,
        "s of audio a second": settings.tenant_quota.audio_s_per_s,
        "calls at once": settings.tenant_quota.streams,
        "speakers": settings.tenant_quota.speakers,
    }
    finite = [f"{value:g} {name}" for name, value in limits.items() if 0 < value < math.inf]
    return ", ".join(finite) or "none"
