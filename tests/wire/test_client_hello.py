"""ClientHellos of real clients are read; ones that could be read in two ways are refused."""

from __future__ import annotations

import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.wire.client_hello import LARGEST_HELLO, MOST_RECORDS, ClientHello, parse_client_hello
from egress.wire.outcome import NeedMore, Reject, RejectKind

if TYPE_CHECKING:
    from collections.abc import Sequence

TLS12, TLS13 = 0x0303, 0x0304
ECH_OUTER = b"\x00\x00\x01\x00\x01\x07\x00\x02KK\x00\x03PPP"


def vector(size: int, data: bytes) -> bytes:
    """Put the length of `data`, in `size` bytes, before it."""
    return len(data).to_bytes(size) + data


def extension(kind: int, value: bytes) -> bytes:
    """Build an extension."""
    return kind.to_bytes(2) + vector(2, value)


def server_name(name: bytes, kind: int = 0) -> bytes:
    """Build an SNI extension with one name."""
    return extension(0, vector(2, kind.to_bytes() + vector(2, name)))


def message(
    extensions: bytes | None = b"",
    *,
    version: bytes = b"\x03\x03",
    session: bytes = b"\x05" * 32,
    suites: bytes = b"\x13\x01\x13\x02",
    compressions: bytes = b"\x00",
    after: bytes = b"",
) -> bytes:
    """Build a ClientHello handshake message; `extensions` None leaves the block out."""
    body = version + b"\x07" * 32 + vector(1, session) + vector(2, suites) + vector(1, compressions)
    body += b"" if extensions is None else vector(2, extensions)
    return b"\x01" + vector(3, body + after)


def records(data: bytes, *sizes: int, version: bytes = b"\x03\x01") -> bytes:
    """Put a message into records of the given sizes, the rest into one more."""
    out = b""
    for size in sizes:
        out += b"\x16" + version + vector(2, data[:size])
        data = data[size:]
    return out + (b"\x16" + version + vector(2, data) if data else b"")


def accepted(data: bytes) -> ClientHello:
    """Parse what must be accepted."""
    hello = parse_client_hello(data)
    assert isinstance(hello, ClientHello), hello
    return hello


def from_python(
    name: str | None,
    alpn: Sequence[str] = (),
    lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """Take the first flight of Python's TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = lowest, highest
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


PYTHON_CLIENTS = (
    ("api.example.com", (), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, {TLS12, TLS13}),
    ("a_b.example.com", ("h2", "http/1.1"), ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, {TLS13}),
    ("xn--bcher-kva.example", ("http/1.1",), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, {TLS12}),
    ("a" * 63 + "." + "b" * 63, ("x" * 255,) * 9, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, {TLS12, TLS13}),
    (None, ("h2",), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, {TLS12, TLS13}),
    ("192.0.2.1", (), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, {TLS12, TLS13}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "alpn", "lowest", "highest", "versions"), PYTHON_CLIENTS)
def test_hello_of_python_is_read(
    name: str | None, alpn: Sequence[str], lowest: ssl.TLSVersion, highest: ssl.TLSVersion, versions: set[int]
) -> None:
    """Name, protocols and versions come out as the client was told; an address is never sent as a name."""
    data = from_python(name, alpn, lowest, highest)
    hello = accepted(data + b"\x14\x03\x03\x00\x01\x01")
    assert hello.sni == (None if name == "192.0.2.1" else name)
    assert hello.alpn == tuple(protocol.encode() for protocol in alpn)
    assert set(hello.versions) == versions
    assert (hello.ech, hello.esni, hello.length) == (False, False, len(data))


@pytest.mark.parametrize(
    ("arguments", "sni", "alpn"),
    [
        (["-servername", "openssl.example.com", "-alpn", "h2,http/1.1"], "openssl.example.com", (b"h2", b"http/1.1")),
        (["-servername", "a.test", "-tls1_2"], "a.test", ()),
        (["-noservername", "-tls1_3"], None, ()),
    ],
)
def test_hello_of_openssl_is_read(arguments: list[str], sni: str | None, alpn: tuple[bytes, ...]) -> None:
    """The command line client's hello, taken from a loopback socket, is read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as client:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                data = b""
                while isinstance(hello := parse_client_hello(data), NeedMore):
                    data += connection.recv(65_536)
            client.kill()
    assert isinstance(hello, ClientHello)
    assert (hello.sni, hello.alpn, hello.length) == (sni, alpn, len(data))


def test_every_truncation_waits() -> None:
    """A hello that lacks any number of bytes is waited for, in one record and in several."""
    data = from_python("api.example.com", ("h2", "http/1.1"))
    for whole in (data, records(data[5:], 1, 2, 3, 100, 37)):
        assert accepted(whole).sni == "api.example.com"
        for end in range(len(whole)):
            assert isinstance(parse_client_hello(whole[:end]), NeedMore)


@given(st.lists(st.integers(1, 400), max_size=20))
def test_fragments_say_what_the_whole_says(sizes: list[int]) -> None:
    """How a hello is spread over records changes nothing but the length."""
    body = message(server_name(b"a.test") + extension(16, vector(2, vector(1, b"h2"))))
    fragmented = records(body, *[size for at, size in enumerate(sizes) if sum(sizes[: at + 1]) < len(body)])
    hello, whole = accepted(fragmented), accepted(records(body))
    assert (hello.sni, hello.alpn, hello.extensions, hello.length) == (
        whole.sni,
        whole.alpn,
        whole.extensions,
        len(fragmented),
    )


def test_hello_without_extensions_is_read() -> None:
    """TLS 1.2 allows a hello that ends with its compression methods; it names nothing."""
    hello = accepted(records(message(None)))
    assert hello == ClientHello(None, (), ech=False, esni=False, versions=(TLS12,), extensions=(), length=hello.length)
    assert accepted(records(message(b""))).extensions == ()


@pytest.mark.parametrize("value", [ECH_OUTER, b"\x01"])
def test_encrypted_client_hello_is_noticed(value: bytes) -> None:
    """The extension is told whether it is GREASE or not; the outer name stays readable."""
    hello = accepted(records(message(server_name(b"outer.test") + extension(0xFE0D, value))))
    assert (hello.ech, hello.esni, hello.sni) == (True, False, "outer.test")


def test_draft_of_encrypted_sni_is_noticed() -> None:
    """The abandoned extension hides a name too."""
    hello = accepted(records(message(extension(0xFFCE, b"\x13\x01whatever"))))
    assert (hello.ech, hello.esni, hello.sni) == (False, True, None)


@pytest.mark.parametrize("name", [b"a", b"A.Test", b"a.test.", b"1.2.3.4", b"x_y.test", b"a" * 255])
def test_name_is_given_as_sent(name: bytes) -> None:
    """Making a name canonical, or refusing it for what it names, is the policy's."""
    assert accepted(records(message(server_name(name)))).sni == name.decode()


NAME = b"\x00" + vector(2, b"a.test")
PSK = extension(41, b"x")

# the extension block of a hello that must be refused
BAD_EXTENSIONS: dict[str, bytes] = {
    "two SNI extensions": server_name(b"a.test") + server_name(b"b.test"),
    "the same SNI extension twice": server_name(b"a.test") * 2,
    "two names": extension(0, vector(2, NAME + b"\x00" + vector(2, b"b.test"))),
    "the same name twice": extension(0, vector(2, NAME * 2)),
    "a name of another type": server_name(b"a.test", kind=1),
    "a name and one of another type": extension(0, vector(2, NAME + b"\x01" + vector(2, b"b.test"))),
    "no name": extension(0, vector(2, b"")),
    "empty SNI": extension(0, b""),
    "empty name": server_name(b""),
    "garbage behind the list": extension(0, vector(2, NAME) + b"x"),
    "garbage inside the list": extension(0, vector(2, NAME + b"x")),
    "list longer than the extension": extension(0, b"\xff\xff" + NAME),
    "list shorter than its name": extension(0, b"\x00\x05" + NAME),
    "name longer than the list": extension(0, vector(2, b"\x00\xff\xffa.test")),
    "NUL in the name": server_name(b"a.test\x00.b.test"),
    "space in the name": server_name(b" a.test"),
    "newline in the name": server_name(b"a.test\n"),
    "name outside ASCII": server_name("bücher.test".encode()),
    "percent in the name": server_name(b"a%2etest"),
    "colon in the name": server_name(b"a.test:443"),
    "brackets in the name": server_name(b"[::1]"),
    "slash in the name": server_name(b"a.test/x"),
    "user information in the name": server_name(b"u@a.test"),
    "name of 256 bytes": server_name(b"a" * 256),
    "another extension twice": extension(0x0A0A, b"") * 2,
    "empty ALPN": extension(16, b""),
    "ALPN without protocols": extension(16, vector(2, b"")),
    "empty protocol": extension(16, vector(2, vector(1, b"h2") + b"\x00")),
    "ALPN with garbage": extension(16, vector(2, vector(1, b"h2")) + b"x"),
    "protocol longer than ALPN": extension(16, vector(2, b"\x09h2")),
    "two ALPN": extension(16, vector(2, vector(1, b"h2"))) * 2,
    "no versions": extension(43, vector(1, b"")),
    "half a version": extension(43, vector(1, b"\x03\x04\x03")),
    "versions with garbage": extension(43, vector(1, b"\x03\x04") + b"x"),
    "empty ECH": extension(0xFE0D, b""),
    "ECH of unknown type": extension(0xFE0D, b"\x02" + ECH_OUTER[1:]),
    "inner ECH with content": extension(0xFE0D, b"\x01x"),
    "outer ECH without payload": extension(0xFE0D, ECH_OUTER[:-5] + b"\x00\x00"),
    "outer ECH cut short": extension(0xFE0D, ECH_OUTER[:-1]),
    "outer ECH with garbage": extension(0xFE0D, ECH_OUTER + b"x"),
    "pre-shared key before another": PSK + server_name(b"a.test"),
    "half an extension": server_name(b"a.test")[:-1],
    "half an extension's header": server_name(b"a.test") + b"\x00\x10\x00",
}


@pytest.mark.parametrize("block", BAD_EXTENSIONS.values(), ids=BAD_EXTENSIONS.keys())
def test_bad_extensions_are_refused(block: bytes) -> None:
    """Repeated, ill-fitting and unreadable extensions are refused, whoever might be lenient about them."""
    assert isinstance(parse_client_hello(records(message(block))), Reject)


def test_pre_shared_key_may_stand_last() -> None:
    """Resumption is no reason to refuse."""
    assert accepted(records(message(server_name(b"a.test") + PSK))).extensions == (0, 41)


GOOD = message(server_name(b"a.test"))

# the bytes of a connection that must be refused, however many follow
BAD_HELLOS: dict[str, bytes] = {
    "version SSL 3": records(message(version=b"\x03\x00")),
    "version TLS 1.3 in the old place": records(message(version=b"\x03\x04")),
    "version 2": records(message(version=b"\x02\x00")),
    "session id of 33 bytes": records(message(session=b"x" * 33)),
    "no cipher suites": records(message(suites=b"")),
    "half a cipher suite": records(message(suites=b"\x13\x01\x13")),
    "no compression methods": records(message(compressions=b"")),
    "no null compression": records(message(compressions=b"\x01")),
    "garbage behind the extensions": records(message(b"", after=b"x")),
    "extensions longer than the hello": records(message(None, after=b"\xff\xff")),
    "half a length of extensions": records(message(None, after=b"\x00")),
    "empty hello": records(b"\x01\x00\x00\x00"),
    "hello of the version alone": records(b"\x01\x00\x00\x02\x03\x03"),
    "second message in the record": records(GOOD + b"x"),
    "second hello in the record": records(GOOD * 2),
    "message of another type": records(b"\x02" + GOOD[1:]),
    "message of type 0": records(b"\x00" + GOOD[1:]),
    "record of SSL 3": records(GOOD, version=b"\x03\x00"),
    "record of TLS 1.3": records(GOOD, version=b"\x03\x04"),
    "record of version 2": records(GOOD, version=b"\x02\x01"),
    "record of version 4": records(GOOD, version=b"\x04\x01"),
    "second record of another version": records(GOOD, 9) [:14] + b"\x16\x03\x00" + records(GOOD, 9)[17:],
    "empty record": b"\x16\x03\x01\x00\x00" + records(GOOD),
    "empty record in between": records(GOOD, 9)[:14] + b"\x16\x03\x01\x00\x00" + records(GOOD, 9)[14:],
    "record over 16 KB": b"\x16\x03\x01\x40\x01",
    "alert in between": records(GOOD, 9)[:14] + b"\x15\x03\x01\x00\x02\x01\x00" + records(GOOD, 9)[14:],
    "application data in between": records(GOOD, 9)[:14] + b"\x17" + records(GOOD, 9)[15:],
}  # fmt: skip


@pytest.mark.parametrize("data", BAD_HELLOS.values(), ids=BAD_HELLOS.keys())
def test_bad_hello_is_refused(data: bytes) -> None:
    """Versions, lengths and records that no client sends are refused."""
    assert isinstance(parse_client_hello(data), Reject)


@pytest.mark.parametrize(
    "data", [b"G", b"\x80.\x01\x00\x02", b"\x00", b"\x15\x03\x01", b"\x17", b"\x14", b"SSH-2.0-x\r\n", b" \x16\x03"]
)  # fmt: skip
def test_what_is_not_tls_is_told_by_its_first_byte(data: bytes) -> None:
    """No second byte is waited for, so that other protocols are refused at once."""
    for end in range(1, len(data) + 1):
        reject = parse_client_hello(data[:end])
        assert isinstance(reject, Reject)
        assert reject.kind is RejectKind.NOT_TLS


@pytest.mark.parametrize("data", [b"\x16\x02", b"\x16\x03\x00", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x00\x05\x02"])
def test_hopeless_prefix_is_refused_at_once(data: bytes) -> None:
    """Bytes that no hello begins with are not held."""
    assert isinstance(parse_client_hello(data), Reject)


def test_no_bytes_wait() -> None:
    """Nothing yet is no reason to refuse."""
    assert isinstance(parse_client_hello(b""), NeedMore)


def large(size: int) -> bytes:
    """Build a hello that takes `size` bytes on the wire, in four records."""
    filler = size - 4 * len(b"\x16\x03\x01\x00\x00") - len(message(extension(21, b"")))
    return records(message(extension(21, b"\x00" * filler)), 16_384, 16_384, 16_384)


def test_hello_at_its_size_limit_passes_and_one_byte_more_is_refused() -> None:
    """The limit is told from the lengths, before the bytes have come."""
    assert len(large(LARGEST_HELLO)) == LARGEST_HELLO
    accepted(large(LARGEST_HELLO))
    reject = parse_client_hello(large(LARGEST_HELLO + 1))
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE
    early = parse_client_hello(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00")
    assert isinstance(early, Reject)
    assert early.kind is RejectKind.TOO_LARGE


@pytest.mark.parametrize("begun", range(6))
def test_a_limit_that_is_full_is_never_waited_on(begun: int) -> None:
    """Nobody looks at more: who waited for the rest would look at the same bytes again and again."""
    unfinished = b"\x01" + vector(3, bytes(LARGEST_HELLO - 4))
    last = LARGEST_HELLO - 3 * (16_384 + 5) - 5 - begun
    data = records(unfinished, 16_384, 16_384, 16_384, last)[:LARGEST_HELLO]
    assert len(data) == LARGEST_HELLO
    reject = parse_client_hello(data)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


def test_records_at_their_limit_pass_and_one_more_is_refused() -> None:
    """A hello in a great many tiny records would cost more to gather than any client needs."""
    assert accepted(records(GOOD, *[1] * (MOST_RECORDS - 1))).sni == "a.test"
    reject = parse_client_hello(records(GOOD, *[1] * MOST_RECORDS))
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


def test_rejections_repeat_no_input() -> None:
    """INVARIANT sandbox text is hostile text: a Reject's sentence is ours alone."""
    reject = parse_client_hello(records(message(server_name(b"CANARY CANARY"))))
    assert isinstance(reject, Reject)
    assert "CANARY" not in reject.detail


def test_other_record_inside_a_hello_is_malformed_tls() -> None:
    """Only the first byte says that a connection is not TLS; later, something is wrong with its TLS."""
    reject = parse_client_hello(BAD_HELLOS["alert in between"])
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.MALFORMED
