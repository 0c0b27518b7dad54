"""A CA with name constraints: what it may sign for, and that verifiers hold it to that too."""

from __future__ import annotations

import ssl
import subprocess
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from egress.certs import Authority, NameConstraints, OutsideConstraintsError
from egress.certs.mint import make_leaf, new_key
from egress.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from egress.certs import Leaf

# What is written, a host, and whether a leaf for it may be signed.
PERMITTED = [
    ([], "anything.example", True),
    ([], "192.0.2.1", True),
    (["corp.example"], "corp.example", True),
    (["corp.example"], "a.b.corp.example", True),
    (["corp.example"], "xcorp.example", False),
    (["corp.example"], "example", False),
    (["corp.example"], "corp.example.evil.test", False),
    (["corp.example"], "10.0.0.1", False),
    (["corp.example"], "::1", False),
    ([".Corp.Example"], "a.corp.example", True),
    (["10.0.0.0/8"], "10.1.2.3", True),
    (["10.0.0.0/8"], "11.0.0.1", False),
    (["10.0.0.0/8"], "corp.example", False),
    (["10.0.0.0/8"], "fd00::1", False),
    (["192.0.2.1"], "192.0.2.1", True),
    (["192.0.2.1"], "192.0.2.2", False),
    (["[fd00::]/8"], "fd12::1", True),
    (["fd00::/8"], "10.0.0.1", False),
    (["corp.example", "10.0.0.0/8"], "10.1.1.1", True),
    (["corp.example", "10.0.0.0/8"], "www.corp.example", True),
    (["corp.example", "10.0.0.0/8"], "evil.test", False),
]


@pytest.mark.parametrize(("written", "host", "permitted"), PERMITTED)
def test_a_constraint_permits_what_it_names_and_what_is_below(
    *, written: list[str], host: str, permitted: bool
) -> None:
    """Names and addresses apart: a CA constrained to the one signs nothing of the other."""
    text = [own.replace("[fd00::]/8", "fd00::/8") for own in written]
    assert NameConstraints.parse(text).permit(host) is permitted


@pytest.mark.parametrize("text", ["*.corp.example", "", ".", "10.0.0.1/8", "a b", "corp.example:443", "10.0.0.0/40"])
def test_what_is_no_name_and_no_network_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(StateError) as caught:
        NameConstraints.parse([text])
    assert "corp.example" in caught.value.hint


def test_constraints_are_those_of_the_certificate(tmp_path: Path) -> None:
    """They are read back from the CA, and are critical; an unconstrained CA has no such extension."""
    wanted = NameConstraints.parse(["corp.example", "10.0.0.0/8"])
    made = Authority.load_or_create(tmp_path / "ca", constraints=wanted)
    assert Authority.load(tmp_path / "ca").constraints == made.constraints == wanted
    found = made.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    assert found.value.excluded_subtrees == [x509.IPAddress(ip_network("::/0"))]
    plain = Authority.load_or_create(tmp_path / "plain")
    assert not plain.constraints
    with pytest.raises(x509.ExtensionNotFound):
        plain.certificate.extensions.get_extension_for_class(x509.NameConstraints)


def test_no_leaf_is_signed_outside_the_constraints(tmp_path: Path) -> None:
    """The error says for what the CA may sign."""
    authority = Authority.load_or_create(tmp_path, constraints=NameConstraints.parse(["corp.example"]))
    assert authority.permits("api.corp.example")
    assert authority.leaf("api.corp.example")
    assert not authority.permits("evil.test")
    with pytest.raises(OutsideConstraintsError, match=r"corp\.example"):
        authority.leaf("evil.test")


def forged(authority: Authority, host: str) -> Leaf:
    """A leaf as whoever stole the key would sign it."""
    key = authority._held.key
    return make_leaf(host, new_key(), authority=authority.certificate, authority_key=key, now=authority._clock())


CONSTRAINTS = [["corp.example"], ["10.0.0.0/8"], ["corp.example", "10.0.0.0/8"], ["corp.example", "fd00::/8"]]
HOSTS = ["corp.example", "a.corp.example", "evil.test", "10.1.2.3", "192.0.2.1", "fd00::1", "2001:db8::1"]


@pytest.mark.parametrize("written", CONSTRAINTS, ids=" ".join)
@pytest.mark.parametrize("host", HOSTS)
def test_openssl_holds_even_a_stolen_key_to_the_constraints(tmp_path: Path, written: list[str], host: str) -> None:
    """`openssl verify` accepts a leaf exactly where we would sign it."""
    authority = Authority.load_or_create(tmp_path / "ca", constraints=NameConstraints.parse(written))
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(forged(authority, host).certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority.certificate_path]
    done = subprocess.run([*command, leaf], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is authority.permits(host), done.stderr
    assert authority.permits(host) or "subtree violation" in done.stderr


@pytest.mark.parametrize("written", CONSTRAINTS, ids=" ".join)
@pytest.mark.parametrize("host", HOSTS)
def test_python_holds_even_a_stolen_key_to_the_constraints(tmp_path: Path, written: list[str], host: str) -> None:
    """A handshake with the default context, strictly verified, likewise."""
    authority = Authority.load_or_create(tmp_path / "ca", constraints=NameConstraints.parse(written))
    leaf = forged(authority, host)
    key = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(leaf.certificate_pem + key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.pem")
    asking = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    asking.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    problem = ""
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            problem = error.verify_message
            break
    assert (problem == "") is authority.permits(host), problem
