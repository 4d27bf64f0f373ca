"""Access: a call's credential becomes a caller with a tenant and roles.

metadata, certificate -> authenticator -> keys (key file) | tokens (JWKS) -> Caller
                                        -> the rpc's role, by the table in `roles` -> current()

The tenant comes only from the credential; no request names one. Health and reflection need none.
"""

from service.access.authenticator import Authenticator, identify_caller, open_authenticator
from service.access.caller import ANYONE, Caller, current, is_tenant, use_caller
from service.access.keys import Keys
from service.access.roles import ROLES, Role
from service.access.tokens import Tokens
from service.settings import TokenRules

__all__ = [
    "ANYONE",
    "ROLES",
    "Authenticator",
    "Caller",
    "Keys",
    "Role",
    "TokenRules",
    "Tokens",
    "current",
    "identify_caller",
    "is_tenant",
    "open_authenticator",
    "use_caller",
]
