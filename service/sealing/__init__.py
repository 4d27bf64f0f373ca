"""Encryption at rest: seals what a store writes, with keys that the store holds only wrapped.

    master key ──wraps──> data keys of a tenant ──HKDF──┬─> a key per speaker ──> AES-256-GCM
    kms.py: local.py,     keyring.py: stored wrapped    └─> a rotation per model, if enabled
            vault.py      beside the records            envelope.py        templates.py

docs/security/encryption.md says which attackers this stops.
"""

from service.sealing.keyring import Keyring, KeySet, KeyTable, Sealing
from service.sealing.kms import Kms, choose_kms
from service.sealing.local import LocalMaster
from service.sealing.vault import VaultTransit

__all__ = [
    "KeySet",
    "KeyTable",
    "Keyring",
    "Kms",
    "LocalMaster",
    "Sealing",
    "VaultTransit",
    "choose_kms",
]
