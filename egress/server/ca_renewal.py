"""Takes over, at a reload, the CA that a rotation put in the place of the one in force.

The supervisor first, since what is forked later has its copy; the processes that judge with the generation that
follows. What clients trust is written anew first of all, so that no leaf is presented that a fresh client refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256

from egress.audit import notes
from egress.certs import Authority
from egress.gate.build import write_trust

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from egress.config import ServerConfig


class CaRenewal:
    """The CA of one supervisor."""

    def __init__(self, config: ServerConfig, authority: Authority) -> None:
        self._config = config
        self._authority = authority

    def act(self) -> notes.Note | None:
        """Read the CA again; what is to be recorded if it is another. Raises EgressError, and the old one goes on."""
        write_trust(self._config, Authority.load(self._config.ca_dir))
        before = self._authority.certificate
        if not self._authority.renew():
            return None
        until = self._authority.retired_until
        told = "" if until is None else until.isoformat(sep=" ", timespec="seconds")
        return notes.ca_rotated(_digest(before), _digest(self._authority.certificate), told)


def _digest(certificate: Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()
