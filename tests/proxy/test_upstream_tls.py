"""TLS towards upstreams: real handshakes with good and bad certificates, and what is said of those that fail."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from harness.authority import TestAuthority
from OpenSSL import SSL
from tls_pair import passed, server_side, shake, sockets

from egress.errors import StateError
from egress.policy import Reason, Refusal
from egress.proxy.upstream_tls import UpstreamTls, failure_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "api.example.com"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
LONGEST = "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 57 + ".test"

# The host that was judged, the names in the certificate, and what OpenSSL says; nothing if it is good.
NAMES = [
    (HOST, [HOST], ""),
    (HOST, ["first.example.com", HOST], ""),
    (HOST, ["API.Example.COM"], ""),
    (HOST, ["*.example.com"], ""),
    ("under_score.example.com", ["under_score.example.com"], ""),
    (LONGEST, [LONGEST], ""),
    (HOST, ["other.example.com"], "hostname mismatch"),
    (HOST, ["example.com"], "hostname mismatch"),
    (HOST, [f"x.{HOST}"], "hostname mismatch"),
    (HOST, ["*"], "hostname mismatch"),
    (HOST, ["*.com"], "hostname mismatch"),
    (HOST, ["a*.example.com"], "hostname mismatch"),
    (HOST, ["*i.example.com"], "hostname mismatch"),
    ("a.b.example.com", ["*.example.com"], "hostname mismatch"),
    ("example.com", ["*.example.com"], "hostname mismatch"),
    (HOST, ["api.*.com"], "hostname mismatch"),
    (HOST, ["127.0.0.1"], "hostname mismatch"),
    ("127.0.0.1", ["127.0.0.1"], ""),
    ("::1", ["::1"], ""),
    ("2001:db8::1", [HOST, "2001:db8::1"], ""),
    ("127.0.0.1", ["127.0.0.2"], "IP address mismatch"),
    ("127.0.0.1", [HOST], "IP address mismatch"),
    ("127.0.0.1", ["*.0.0.1"], "IP address mismatch"),
    ("::1", ["::2"], "IP address mismatch"),
    ("::ffff:127.0.0.1", ["127.0.0.1"], "IP address mismatch"),
]
FAULTS = [
    ("expired", "certificate has expired"),
    ("self-signed", "self-signed certificate"),
    ("unknown-ca", "unable to get local issuer certificate"),
    ("common-name-only", "hostname mismatch"),
    ("address-as-name", "IP address mismatch"),
]


@pytest.fixture
def roots(tmp_path: Path) -> TestAuthority:
    """The CA that is trusted."""
    return TestAuthority(tmp_path / "roots")


@pytest.fixture
def tls(roots: TestAuthority) -> UpstreamTls:
    """What is under test."""
    return UpstreamTls(roots.ca_file)


def server_of(files: tuple[Path, Path], *alpn: str) -> ssl.SSLContext:
    """A server's TLS with this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@contextlib.contextmanager
def ends(
    tls: UpstreamTls, server: ssl.SSLContext, host: str = HOST, session: ssl.SSLSession | None = None
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Our end and the server's, before the handshake."""
    with sockets() as (ours, theirs), tls.wrap(ours, host, session) as client, server_side(server, theirs) as other:
        yield client, other


def outcome(tls: UpstreamTls, server: ssl.SSLContext, host: str = HOST) -> Refusal | None:
    """How our side's handshake ends."""
    with ends(tls, server, host) as (client, other):
        error, _ = shake(client, other)
    return None if error is None else failure_of(error)


def failed(words: str) -> Refusal:
    """What is told of a certificate that does not verify."""
    return Refusal(Reason.UPSTREAM_TLS, f"Certificate verify failed: {words}")


# which certificates


@pytest.mark.parametrize(("host", "names", "words"), NAMES)
def test_the_certificate_names_the_host(
    tls: UpstreamTls, roots: TestAuthority, host: str, names: list[str], words: str
) -> None:
    """By a name, by a wildcard that is a whole first label, or by the address itself; by nothing else."""
    server = server_of(issue(roots, names))
    assert outcome(tls, server, host) == (failed(words) if words else None)


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_bad_certificate_is_refused_in_openssls_words(
    tls: UpstreamTls, roots: TestAuthority, tmp_path: Path, fault: str, words: str
) -> None:
    """The sentence says what is wrong with it, and repeats nothing of it."""
    host = HOST
    match fault:
        case "unknown-ca":
            files = TestAuthority(tmp_path / "other").issue(HOST)
        case "common-name-only":
            files = issue(roots, [], common_name=HOST)
        case "address-as-name":
            host = "127.0.0.1"
            files = issue(roots, [], common_name=host, dns=[host])
        case _:
            files = roots.issue(HOST, expired=fault == "expired", self_signed=fault == "self-signed")
    assert outcome(tls, server_of(files), host) == failed(words)


def test_the_words_are_those_of_every_lane() -> None:
    """Where Python words a failure by itself, we do not: pyOpenSSL tells the mitm lane what OpenSSL says."""
    for code, words in [
        (10, FAULTS[0][1]),
        (18, FAULTS[1][1]),
        (20, FAULTS[2][1]),
        (62, NAMES[6][2]),
        (64, NAMES[-1][2]),
    ]:
        said = SSL._ffi.string(SSL._lib.X509_verify_cert_error_string(code)).decode()  # type: ignore[attr-defined]
        assert said == words


def test_only_the_given_roots_are_trusted(tls: UpstreamTls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the system's, nor what the environment names, which may be the bundle that trusts ourselves."""
    other = TestAuthority(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.ca_file))
    again = UpstreamTls(tmp_path / "roots" / "test-ca.pem")
    for each in (tls, again):
        assert outcome(each, server_of(other.issue(HOST))) == failed("unable to get local issuer certificate")


@pytest.mark.parametrize(
    "content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_roots_that_cannot_be_read_stop_the_start(tmp_path: Path, content: bytes | None) -> None:
    """Without roots nothing could be verified."""
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StateError, match=r"roots\.pem"):
        UpstreamTls(path)


# what is said


@pytest.mark.parametrize(("host", "sent"), [(HOST, HOST), ("127.0.0.1", None), ("::1", None)])
def test_a_name_is_sent_as_sni_and_an_address_is_not(
    tls: UpstreamTls, roots: TestAuthority, host: str, sent: str | None
) -> None:
    """RFC 6066 section 3: the judged name and no other; addresses are not sent."""
    seen: list[str | None] = []
    server = server_of(roots.issue(host))
    server.sni_callback = lambda _sock, name, _context: seen.append(name)
    assert outcome(tls, server, host) is None
    assert seen == [sent]


@pytest.mark.parametrize(
    ("spoken", "chosen"), [(("h2", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"), (("h2",), None), ((), None)]
)
def test_only_http_1_1_is_offered(
    tls: UpstreamTls, roots: TestAuthority, spoken: tuple[str, ...], chosen: str | None
) -> None:
    """A server that prefers HTTP/2 is not led into it; one without ALPN is taken to speak HTTP/1.1."""
    with ends(tls, server_of(roots.issue(HOST), *spoken)) as (client, other):
        assert shake(client, other) == (None, None)
        assert client.selected_alpn_protocol() == chosen


def test_old_tls_is_not_spoken(tls: UpstreamTls, roots: TestAuthority) -> None:
    """A server that knows nothing newer than TLS 1.1 is not talked to."""
    server = server_of(roots.issue(HOST))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server.minimum_version, server.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    server.set_ciphers("ALL:@SECLEVEL=0")
    assert outcome(tls, server) == Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")


def test_a_server_cannot_renegotiate(tls: UpstreamTls, roots: TestAuthority) -> None:
    """In TLS 1.2 a server could ask for another handshake, in which it shows another certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    certificate, key = roots.issue(HOST)
    context.use_certificate_file(str(certificate))
    context.use_privatekey_file(str(key))
    with sockets() as (ours, theirs), tls.wrap(ours, HOST, None) as client:
        server = SSL.Connection(context, theirs)
        server.set_accept_state()
        for _ in range(4):
            for step in (client.do_handshake, server.do_handshake):
                with contextlib.suppress(SSL.WantReadError, ssl.SSLWantReadError):
                    step()
        assert client.version() == "TLSv1.2"
        assert server.renegotiate()
        server.do_handshake()
        with pytest.raises(ssl.SSLWantReadError):
            client.recv(100)
        with pytest.raises(SSL.Error, match="no renegotiation"):
            server.recv(100)


def test_keys_are_never_logged(roots: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSLKEYLOGFILE is heard by Python's default contexts; whoever sets it would read secrets."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    server = server_of(roots.issue(HOST))
    tls = UpstreamTls(roots.ca_file)
    with ends(tls, server) as (client, other):
        assert shake(client, other) == (None, None)
        assert client.context.keylog_filename is None
    assert not log.exists()


def test_the_socket_stays_non_blocking(tls: UpstreamTls, roots: TestAuthority) -> None:
    """The handshake is the loop's to wait for; an end that TLS did not say is an error."""
    with ends(tls, server_of(roots.issue(HOST))) as (client, other):
        assert client.gettimeout() == 0
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        assert shake(client, other) == (None, None)
        other.detach()
        with pytest.raises(ssl.SSLWantReadError):
            client.recv(1)
    assert not client.suppress_ragged_eofs


# sessions


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_resumes_with_its_server(tls: UpstreamTls, roots: TestAuthority, version: ssl.TLSVersion) -> None:
    """TLS 1.2: worth keeping at once. TLS 1.3: once the server's first answer was read."""
    server = server_of(roots.issue(HOST))
    server.maximum_version = version
    with ends(tls, server) as (client, other):
        assert shake(client, other) == (None, None)
        assert client.session is not None
        assert client.session.has_ticket is (version is ssl.TLSVersion.TLSv1_2)
        passed(other, client, b"answer")
        session = client.session
    assert session is not None
    assert session.has_ticket
    with ends(tls, server, session=session) as (client, other):
        assert shake(client, other) == (None, None)
        assert client.session_reused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_a_server_does_not_know_is_verified_anew(
    tls: UpstreamTls, roots: TestAuthority, version: ssl.TLSVersion
) -> None:
    """A server that took the name's place shows its certificate, and is refused for it."""
    server = server_of(roots.issue(HOST))
    server.maximum_version = version
    with ends(tls, server) as (client, other):
        assert shake(client, other) == (None, None)
        passed(other, client, b"answer")
        session = client.session
    thief = server_of(roots.issue("thief.example.com"))
    with ends(tls, thief, session=session) as (client, other):
        error, _ = shake(client, other)
    assert error is not None
    assert failure_of(error) == failed("hostname mismatch")


def test_a_session_of_other_roots_is_refused(tls: UpstreamTls, roots: TestAuthority) -> None:
    """What was verified under other roots was not verified."""
    server = server_of(roots.issue(HOST))
    with ends(tls, server) as (client, other):
        assert shake(client, other) == (None, None)
        passed(other, client, b"answer")
        session = client.session
    with pytest.raises(ValueError, match="SSLContext"), ends(UpstreamTls(roots.ca_file), server, session=session):
        pass


@pytest.mark.parametrize("host", ["", ".example.com", "a\0b", "a..b", "é" * 64])
def test_what_is_no_host_is_refused(tls: UpstreamTls, host: str) -> None:
    """No handshake without a name to verify."""
    with sockets() as (ours, _), pytest.raises((ValueError, TypeError)):
        tls.wrap(ours, host, None)


# failures


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (b"HTTP/1.1 400 canary\r\n\r\n", Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")),
        (b"\x15\x03\x03\x00\x02\x02\x28", Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")),
        (b"\x15\x03\x03\x00\x02\x02\x30", Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")),
        (b"", Refusal(Reason.UPSTREAM_UNREACHABLE, "connection closed")),
        (b"\x16\x03\x03", Refusal(Reason.UPSTREAM_UNREACHABLE, "connection closed")),
    ],
    ids=["no-tls", "alert", "unknown-ca-alert", "closed", "cut"],
)
def test_a_server_that_makes_no_handshake_is_told_in_our_words(
    tls: UpstreamTls, answer: bytes, refusal: Refusal
) -> None:
    """A canned answer and the end: nothing of it is repeated."""
    with sockets() as (ours, theirs), tls.wrap(ours, HOST, None) as client:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        theirs.recv(65_536)
        theirs.sendall(answer)
        theirs.close()
        with pytest.raises(OSError) as raised:  # noqa: PT011 -- failure_of says what it is
            client.do_handshake()
    assert failure_of(raised.value) == refusal


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "x"), BrokenPipeError(), TimeoutError(), OSError(113, "x")]
)
def test_an_end_from_below_is_an_upstream_that_cannot_be_reached(error: OSError) -> None:
    """It is no fault of TLS."""
    assert failure_of(error) == Refusal(Reason.UPSTREAM_UNREACHABLE, "connection closed")


def issue(
    roots: TestAuthority, names: list[str], *, common_name: str = "nobody", dns: list[str] | None = None
) -> tuple[Path, Path]:
    """A good leaf with just these subject alternative names; `dns`: as names, though they look like addresses."""
    import ipaddress

    def general(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    alternatives = [*map(general, names), *map(x509.DNSName, dns or [])]
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(roots.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    leaf = builder.sign(roots.key, hashes.SHA256())
    certificate_file, key_file = roots.folder / "leaf.pem", roots.folder / "leaf.key"
    certificate_file.write_bytes(leaf.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file
