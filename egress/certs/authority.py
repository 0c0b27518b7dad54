"""The CA that the proxy's clients trust, with its key in memory: signs a leaf for each inspected host.

Its folder, and how it is made and replaced, is `ca_folder`'s affair.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import serialization

from egress.certs import ca_folder
from egress.certs.ca_folder import CERTIFICATE_NAME, NEW_CA
from egress.certs.constraints import NameConstraints
from egress.certs.mint import UNCONSTRAINED, Leaf, make_leaf, new_key
from egress.certs.retired import still_trusted
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from egress.certs.ca_folder import Held

# About 1.5 MB. A sandbox that walks through the names of a wildcard rule displaces leaves, it does not add memory.
MAX_LEAVES = 1024


def _utc_now() -> datetime:
    return datetime.now(UTC)


class OutsideConstraintsError(ValueError):
    """A leaf for a host that the CA is not permitted to sign for: clients would refuse it."""


class Authority:
    """The CA with its key in memory. Thread-safe; one leaf key a process, and never the CA's own.

    Made by `load_or_create` or `load`. A process that forks afterwards shares the key with its children. `renew` takes
    over what a rotation put in its folder.
    """

    def __init__(
        self, held: Held, ca_dir: Path, *, clock: Callable[[], datetime] = _utc_now, max_leaves: int = MAX_LEAVES
    ) -> None:
        self.certificate_path = ca_dir / CERTIFICATE_NAME
        self._ca_dir = ca_dir
        self._leaf_key = new_key()
        self._clock = clock
        self._max_leaves = max_leaves
        self._lock = threading.Lock()
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()
        self._take(held)

    def __repr__(self) -> str:
        return f"<Authority {self.certificate.subject.rfc4514_string()}>"

    @classmethod
    def load_or_create(
        cls,
        ca_dir: Path,
        *,
        clock: Callable[[], datetime] = _utc_now,
        constraints: NameConstraints = UNCONSTRAINED,
    ) -> Self:
        """The CA in `ca_dir`, made there if there is none. Raises `StateError` with a hint if it must not be used."""
        return cls(ca_folder.read_or_create(ca_dir, clock(), constraints), ca_dir, clock=clock)

    @classmethod
    def load(cls, ca_dir: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """The CA in `ca_dir`; never makes one. Raises `StateError` if there is none or it must not be used."""
        return cls(ca_folder.read(ca_dir, clock()), ca_dir, clock=clock)

    def rotate(self, *, keep: timedelta, constraints: NameConstraints | None = None) -> None:
        """Replace the CA in its folder and here; see `ca_folder.rotate`. None: it is constrained as before."""
        self._take(ca_folder.rotate(self._ca_dir, self._clock(), keep=keep, constraints=constraints))

    def prepare(self, constraints: NameConstraints | None = None) -> None:
        """Make the CA that the next rotation takes, so that clients trust it before it is used."""
        wanted = self.constraints if constraints is None else constraints
        self._take(ca_folder.prepare(self._ca_dir, self._clock(), wanted))

    def renew(self) -> bool:
        """Take over what is in the folder now; whether it is another CA. On `StateError` nothing has changed.

        A leaf that was signed before is presented until its connection ends, and to no new one.
        """
        before = self.certificate
        self._take(ca_folder.read(self._ca_dir, self._clock()))
        return self.certificate != before

    @property
    def trusted_pem(self) -> bytes:
        """What clients are to trust: the CA, first, then the one that is prepared, and those that it replaced."""
        held = self._held
        following = () if held.following is None else (held.following.public_bytes(serialization.Encoding.PEM),)
        retired = (own.pem for own in still_trusted(held.retired, self._clock()))
        return b"".join((self.certificate_pem, *following, *retired))

    @property
    def retired_until(self) -> datetime | None:
        """Until when clients are to trust a CA that was replaced; None: there is none."""
        return max((own.until for own in still_trusted(self._held.retired, self._clock())), default=None)

    def permits(self, host: str) -> bool:
        """Whether a leaf for `host` (canonical name, or address without brackets) may be signed."""
        return self.constraints.permit(host)

    def leaf(self, host: str) -> Leaf:
        """A leaf for `host` (canonical name, or address without brackets), with half of its life or more before it.

        Raises `ValueError` for a host that no certificate can name, `OutsideConstraintsError` for one that this CA's
        must not, `StateError` once the CA has expired.
        """
        now = self._clock()
        with self._lock:
            found = self._leaves.get(host)
            if found is not None and now < found.renew_after:
                self._leaves.move_to_end(host)
                return found
            certificate, key = self.certificate, self._key
        if now >= certificate.not_valid_after_utc:
            raise StateError(f"the CA `{self.certificate_path}` has expired", hint=NEW_CA)
        if not self.permits(host):
            raise OutsideConstraintsError(f"the CA may sign for {self.constraints} only")
        # Signed outside the lock: two threads may both sign for a new host, and both certificates are good.
        made = make_leaf(host, self._leaf_key, authority=certificate, authority_key=key, now=now)
        with self._lock:
            if certificate is self.certificate:
                self._remember(host, made)
        return made

    def _remember(self, host: str, made: Leaf) -> None:
        self._leaves[host] = made
        self._leaves.move_to_end(host)
        while len(self._leaves) > self._max_leaves:
            self._leaves.popitem(last=False)

    def _take(self, held: Held) -> None:
        with self._lock:
            self._held = held
            self._key: ec.EllipticCurvePrivateKey = held.key
            if getattr(self, "certificate", None) != held.certificate:
                self.certificate: x509.Certificate = held.certificate
                self.certificate_pem = held.certificate.public_bytes(serialization.Encoding.PEM)
                self.constraints = NameConstraints.of(held.certificate)
                self._leaves.clear()
