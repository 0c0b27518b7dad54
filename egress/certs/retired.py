"""The certificates of CAs that were replaced: trusted by clients' bundles until their overlap is over.

They lie in `ca-retired.pem`, each below a line that says until when. Their keys are gone, so that nothing new is ever
signed with them; what they vouch for are leaves that a proxy presents which has not taken over the new CA yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RETIRED_NAME = "ca-retired.pem"
_ENTRY = re.compile(
    r"trusted until (\S+)\n(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]*-----END CERTIFICATE-----)\n?"
)
_HINT = "restore it from a backup, or remove it: clients then trust the CA of today alone"


@dataclass(frozen=True, slots=True)
class Retired:
    """A certificate that was the CA's, and until when clients are to trust it."""

    certificate: x509.Certificate
    until: datetime

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def parse_retired(data: bytes, path: Path) -> tuple[Retired, ...]:
    """What `format_retired` wrote. Raises `StateError` for anything else: half a list would be trusted less."""
    try:
        text = data.decode("ascii")
        found = tuple(
            Retired(x509.load_pem_x509_certificate(block.encode()), datetime.fromisoformat(until).astimezone(UTC))
            for until, block in _ENTRY.findall(text)
        )
    except ValueError as error:
        raise StateError(f"`{path}` is damaged", hint=_HINT) from error
    if _ENTRY.sub("", text).strip():
        raise StateError(f"`{path}` is damaged", hint=_HINT)
    return found


def format_retired(retired: Iterable[Retired]) -> bytes:
    """As the file has them."""
    return b"".join(b"trusted until %s\n%s" % (own.until.isoformat().encode(), own.pem) for own in retired)


def still_trusted(retired: Iterable[Retired], now: datetime) -> tuple[Retired, ...]:
    """Those whose overlap is not over, each once."""
    found = {own.certificate.fingerprint(hashes.SHA256()): own for own in retired if now < own.until}
    return tuple(found.values())
