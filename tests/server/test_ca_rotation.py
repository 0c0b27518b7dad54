"""The CA replaced under a running proxy, with the proxy and its commands as real processes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from harness.origins import answer_ok
from rig.modes import HOST
from rig.process import BIN
from rig.wire import Wire, trusting
from station import family, kill

from egress.certs import Authority

if TYPE_CHECKING:
    from station import Station

# Some old public roots have a serial number of zero.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def egress(station: Station, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command about this station's proxy."""
    done = subprocess.run(
        [str(BIN / "egress"), *words, "--state-dir", str(station.state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=station.folder,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
    )
    return done.returncode, done.stdout, done.stderr


def issuer(station: Station, *alpn: str) -> x509.Name:
    """Who signed the leaf that a client gets which trusts the bundle of now."""
    context = trusting((station.state / "ca-bundle.pem").read_bytes(), alpn)
    wire = station.tunnel(HOST)
    with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as secured:
        der = secured.carrier.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        return x509.load_der_x509_certificate(der).issuer


def test_a_running_proxy_takes_a_rotation_over(station: Station) -> None:
    """In every process, the mitm process too, and in those that are started later; it is on record; open ones go on."""
    with station.origin.behaving(answer_ok), station.running("--workers", "2") as process:
        old = Authority.load(station.state / "ca").certificate
        assert {issuer(station, alpn) for alpn in ("http/1.1", "h2")} == {old.subject}
        with station.wire() as wire:
            wire.send(station.request()).reply()
            code, printed, told = egress(station, "ca", "rotate", "--keep-days", "7")
            assert (code, told) == (0, "")
            assert "the running proxy has taken it over" in printed
            assert wire.send(station.request()).reply().status == 200
        new = Authority.load(station.state / "ca")
        assert new.certificate.subject != old.subject
        wanted = {new.certificate.subject}
        assert {issuer(station, alpn) for alpn in ("http/1.1", "h2") for _ in range(6)} == wanted
        for pid in [pid for name, pid in family(process).items() if name.startswith("worker")]:
            kill(pid)
        assert {issuer(station, "http/1.1") for _ in range(6)} == wanted
        assert {old, new.certificate} <= set(
            x509.load_pem_x509_certificates((station.state / "ca-bundle.pem").read_bytes())
        )
    ((detail,),) = station.table("SELECT detail FROM events WHERE kind = 'ca-rotated'")
    digests = [own.fingerprint(SHA256()).hex() for own in (old, new.certificate)]
    assert str(detail).startswith(f"{digests[0]} to {digests[1]}; the old one is trusted until ")


def test_a_ca_that_must_not_be_used_is_not_taken_over(station: Station) -> None:
    """A key that others can read: the reload is refused with what to do, and the old CA goes on signing."""
    with station.origin.behaving(answer_ok), station.running():
        old = Authority.load(station.state / "ca").certificate
        assert egress(station, "ca", "rotate", "--no-reload")[0] == 0
        (station.state / "ca" / "ca-key.pem").chmod(0o644)
        code, _, told = egress(station, "reload")
        assert code == 1
        assert "chmod 600" in told
        assert issuer(station, "http/1.1") == old.subject
        (station.state / "ca" / "ca-key.pem").chmod(0o600)
        assert egress(station, "reload")[0] == 0
        assert issuer(station, "http/1.1") != old.subject
