"""Roots that common bundles still carry and Egress does not trust: one row each, with the reason.

A root is matched by the organisation, unit or common name of its subject, so that a re-issued root of the same
operator is found too. What this cannot do: drop a chain that runs over another operator's cross-signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Distrusted:
    """An operator's word as it stands in its roots' subjects, in lower case, and why its roots are dropped."""

    word: str
    why: str


_EMUDHRA = "the private key of one of its intermediates is published, so anybody can sign for any name below its roots"

DISTRUSTED: tuple[Distrusted, ...] = (
    Distrusted("emudhra", _EMUDHRA),
    Distrusted("emsign", _EMUDHRA),
)

_ATTRIBUTES = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)


def distrusted(root: x509.Certificate) -> Distrusted | None:
    """The row that speaks against `root`, or None."""
    words = [str(part.value).casefold() for oid in _ATTRIBUTES for part in root.subject.get_attributes_for_oid(oid)]
    return next((row for row in DISTRUSTED if any(row.word in word for word in words)), None)
