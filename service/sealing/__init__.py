"""Encryption at rest: what a store writes is sealed with keys that it holds only wrapped.

    master key ──wraps──> data keys of a tenant ──HKDF──┬─> a key per speaker ──> AES-256-GCM
    kms.py: local.py,     keyring.py: kept wrapped      └─> a rotation per model, if wanted
            vault.py      beside the records            envelope.py        templates.py

docs/encryption.md says what this keeps from whom.
"""

from service.sealing.choice import choose_kms
from service.sealing.keyring import Keyring, KeySet, KeyTable, Sealing
from service.sealing.kms import Kms
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
