"""The names on a client's certificate, each with its kind.

One authority may check who owns a DNS name and let its users choose a URI, or the other way round:
so the same text is another name in another kind.
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
def certificate_names(pem: bytes) -> tuple[CertificateName, ...]:
    """The subject alternative names, or the common name of a certificate without any."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(CertificateName(NameKind.COMMON_NAME, str(each.value)) for each in common)
    return (
        *_all(NameKind.DNS, found.get_values_for_type(x509.DNSName)),
        *_all(NameKind.URI, found.get_values_for_type(x509.UniformResourceIdentifier)),
        *_all(NameKind.EMAIL, found.get_values_for_type(x509.RFC822Name)),
        *_all(NameKind.IP, map(str, found.get_values_for_type(x509.IPAddress))),
    )


def likely_kinds(name: str) -> tuple[NameKind, ...]:
    """What a name is of that is written down without a kind: of one kind of subject alternative
    name by its looks; a plain word or DNS name may be a common name as well."""
    try:
        ip_address(name)
    except ValueError:
        if "@" in name and "://" not in name:
            return (NameKind.EMAIL,)
        return (NameKind.URI,) if _URI.fullmatch(name) else (NameKind.DNS, NameKind.COMMON_NAME)
    return (NameKind.IP,)


def _all(kind: NameKind, values: Iterable[str]) -> list[CertificateName]:
    return [CertificateName(kind, value) for value in values]
