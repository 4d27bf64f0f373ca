"""Who may ask: what a call shows becomes a caller with a tenant and roles.

metadata, certificate -> authenticator -> keys (key file) | tokens (JWKS) -> Caller
                                        -> the rpc's role, by the table in `roles` -> current()

A tenant comes from here and from nowhere else; no request names one. Health and reflection ask for
no credential.
"""

from service.access.authenticator import Authenticator, identified, open_authenticator
from service.access.caller import ANYONE, Caller, calling, current, is_tenant
from service.access.keys import Keys
from service.access.roles import ROLES, Role
from service.access.tokens import Expected, Tokens

__all__ = [
    "ANYONE",
    "ROLES",
    "Authenticator",
    "Caller",
    "Expected",
    "Keys",
    "Role",
    "Tokens",
    "calling",
    "current",
    "identified",
    "is_tenant",
    "open_authenticator",
]
