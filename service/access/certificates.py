"""The names on a client's certificate, each with its kind.

The kind matters: one authority may verify DNS names but let its users choose URIs, and another the
reverse, so equal text of two kinds is two names.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+")


class NameKind(enum.StrEnum):
    DNS = "dns"
    URI = "uri"
    EMAIL = "email"
    IP = "ip"
    COMMON_NAME = "common-name"


@dataclass(frozen=True, slots=True)
class CertificateName:
    kind: NameKind
    value: str


@lru_cache(maxsize=1024)
def read_certificate_names(pem: bytes) -> tuple[CertificateName, ...]:
    """The subject alternative names or, in a certificate without any, the common name."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        alternatives = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(CertificateName(NameKind.COMMON_NAME, str(name.value)) for name in common)
    return (
        *_name_all(NameKind.DNS, alternatives.get_values_for_type(x509.DNSName)),
        *_name_all(NameKind.URI, alternatives.get_values_for_type(x509.UniformResourceIdentifier)),
        *_name_all(NameKind.EMAIL, alternatives.get_values_for_type(x509.RFC822Name)),
        *_name_all(NameKind.IP, map(str, alternatives.get_values_for_type(x509.IPAddress))),
    )


def guess_kinds(name: str) -> tuple[NameKind, ...]:
    """The kinds that a name written without a kind may be of, judged by its form.

    A plain word or DNS name may be a common name as well.
    """
    try:
        ip_address(name)
    except ValueError:
        if "@" in name and "://" not in name:
            return (NameKind.EMAIL,)
        return (NameKind.URI,) if _URI.fullmatch(name) else (NameKind.DNS, NameKind.COMMON_NAME)
    return (NameKind.IP,)


def _name_all(kind: NameKind, values: Iterable[str]) -> list[CertificateName]:
    return [CertificateName(kind, value) for value in values]
