"""TLS towards clients: one leaf for the judged destination, sessions that resume anywhere, contexts made once."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL
from tls_pair import client_context, client_side, passed, shake, sockets

from egress.certs import Authority
from egress.errors import StateError
from egress.proxy.client_tls import ClientTls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.certs import Leaf

HOST = "api.example.com"
OTHER = "other.example.com"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority.load_or_create(tmp_path / "ca")


@pytest.fixture
def tls(authority: Authority) -> Iterator[ClientTls]:
    """What is under test."""
    made = ClientTls(authority)
    yield made
    made.close()


def leaf_for(tls: ClientTls, host: str = HOST) -> ssl.SSLContext:
    """The context of a leaf, made if need be."""
    return asyncio.run(tls.prepare(host))


def connect(
    tls: ClientTls, context: ssl.SSLContext, sni: str | None = HOST, leaf: ssl.SSLContext | None = None
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """A finished handshake: the client's end and ours."""
    client, server = attempt(tls, context, sni, leaf)
    assert shake(client, server) == (None, None)
    return client, server


def attempt(
    tls: ClientTls,
    context: ssl.SSLContext,
    sni: str | None = HOST,
    leaf: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Both ends before their handshake."""
    with sockets() as (theirs, ours):
        return client_side(context, theirs, sni, session), tls.wrap(ours, leaf or leaf_for(tls))


def names(sock: ssl.SSLSocket) -> list[str]:
    """The names in the certificate that the peer showed."""
    certificate = sock.getpeercert() or {}
    return [name for _, name in certificate.get("subjectAltName", ())]  # type: ignore[misc, union-attr]


# which certificate


@pytest.mark.parametrize("sni", [HOST, OTHER, None])
def test_the_leaf_is_that_of_the_judged_host_whatever_the_hello_names(
    tls: ClientTls, authority: Authority, sni: str | None
) -> None:
    """The hello's SNI picks nothing: it was compared with the destination before, and may change in a second hello."""
    context = client_context(authority.certificate_pem)
    context.check_hostname = False
    leaf_for(tls, OTHER)
    client, server = connect(tls, context, sni)
    with client, server:
        assert names(client) == [HOST]
        assert passed(client, server, b"hello") == b"hello"
        assert passed(server, client, b"there") == b"there"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_that_was_given_no_leaf_fails(
    tls: ClientTls, authority: Authority, version: ssl.TLSVersion
) -> None:
    """The base context can finish no handshake by itself."""
    client, server = attempt(tls, client_context(authority.certificate_pem, version))
    server.leaf = None  # type: ignore[attr-defined]
    with client, server:
        theirs, ours = shake(client, server)
    assert isinstance(ours, ssl.SSLError)
    assert theirs is not None
    assert "alert internal error" in str(theirs).lower()


# what is spoken


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(tls: ClientTls, version: ssl.TLSVersion) -> None:
    """TLS 1.2 or later, even for a client that would use nothing else and any cipher."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = client_context(None, version)
    context.set_ciphers("ALL:@SECLEVEL=0")
    client, server = attempt(tls, context)
    with client, server:
        theirs, ours = shake(client, server)
    assert theirs is not None
    assert "protocol" in str(ours).lower()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("offered", "spoken"),
    [
        (("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), "http/1.1"),
        ((), None),
        (("h2",), None),
        (("http/1.0",), None),
    ],
)
def test_alpn_is_http_1_1_or_none(
    tls: ClientTls, authority: Authority, version: ssl.TLSVersion, offered: tuple[str, ...], spoken: str | None
) -> None:
    """What the lane does not speak is never agreed to; such a client's first bytes are then no HTTP/1.1."""
    client, server = connect(tls, client_context(authority.certificate_pem, version, *offered))
    with client, server:
        assert client.selected_alpn_protocol() == spoken
        assert server.selected_alpn_protocol() == spoken


def test_a_client_cannot_renegotiate(tls: ClientTls) -> None:
    """In TLS 1.2 a client could ask for handshake after handshake on one connection, each our work."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with sockets() as (theirs, ours):
        client, server = SSL.Connection(context, theirs), tls.wrap(ours, leaf_for(tls))
        client.set_connect_state()
        for _ in range(4):
            for step in (client.do_handshake, server.do_handshake):
                try:
                    step()
                except (SSL.WantReadError, ssl.SSLWantReadError):
                    continue
        with server:
            assert server.version() == "TLSv1.2"
            assert client.renegotiate()
            with pytest.raises(SSL.WantReadError):
                client.do_handshake()
            with pytest.raises(ssl.SSLWantReadError):
                server.recv(100)
            with pytest.raises(SSL.Error, match="no renegotiation"):
                client.do_handshake()


def test_keys_are_never_logged(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSLKEYLOGFILE is heard by Python's default contexts; whoever sets it would read all traffic."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    assert ssl.create_default_context().keylog_filename == str(log)
    log.unlink()
    tls = ClientTls(authority)
    client, server = connect(tls, client_context(authority.certificate_pem))
    with client, server:
        assert server.context.keylog_filename is None
    tls.close()
    assert not log.exists()


# sessions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("host", [HOST, OTHER])
def test_a_session_resumes_under_the_same_name_and_under_another(
    tls: ClientTls, authority: Authority, version: ssl.TLSVersion, host: str
) -> None:
    """One base context: the session is the proxy's, not a name's; what may be done hangs on the connection."""
    context = client_context(authority.certificate_pem, version)
    context.check_hostname = False
    first, ours = connect(tls, context)
    with first, ours:
        passed(ours, first, b"ticket")
        session = first.session
    leaf = leaf_for(tls, host)
    client, server = attempt(tls, context, host, leaf, session)
    with client, server:
        assert shake(client, server) == (None, None)
        assert client.session_reused
        assert server.session_reused
        # No certificate was sent; our side goes on with the leaf of the host that was judged.
        assert names(client) == [HOST]
        assert server.context is leaf


FORKED = """
import asyncio, os, socket, ssl, sys
from pathlib import Path
from egress.certs import Authority
from egress.proxy.client_tls import ClientTls

authority = Authority.load_or_create(Path(sys.argv[1]))
tls = ClientTls(authority)
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]

def work(listener):
    leaf = asyncio.run(tls.prepare("api.example.com"))
    for _ in range(2):
        carrier, _ = listener.accept()
        with tls.wrap(carrier, leaf) as wrapped:
            wrapped.do_handshake()
            wrapped.send(b"x")
            try:
                wrapped.recv(1)
            except OSError:
                pass
    os._exit(0)

workers = []
for listener in listeners:
    worker = os.fork()
    if not worker:
        work(listener)
    workers.append(worker)
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    context.minimum_version = context.maximum_version = version
    session = None
    for listener in listeners:
        carrier = socket.create_connection(listener.getsockname(), 20)
        with context.wrap_socket(carrier, server_hostname="api.example.com", session=session) as wrapped:
            wrapped.recv(1)
            session = wrapped.session
            print(version.name, wrapped.session_reused)
for worker in workers:
    assert os.waitpid(worker, 0)[1] == 0
"""


def test_a_session_resumes_in_another_worker(tmp_path: Path) -> None:
    """The base context is made before the fork; each worker makes its own leaf."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FORKED, tmp_path / "ca"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["TLSv1_2", "False", "TLSv1_2", "True", "TLSv1_3", "False", "TLSv1_3", "True"]


# contexts


class Counting:
    """An authority that notes for whom it signs, in which thread, and can be held up."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.certificate = authority.certificate
        self.hosts: list[str] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.go.set()

    def leaf(self, host: str) -> Leaf:
        """As `Authority.leaf`."""
        self.hosts.append(host)
        self.threads.add(threading.get_ident())
        assert self.go.wait(20)
        return self._authority.leaf(host)


@pytest.fixture
def counting(authority: Authority) -> Counting:
    """An authority that can be watched."""
    return Counting(authority)


def watched(counting: Counting, **options: object) -> ClientTls:
    """TLS that signs with it."""
    return ClientTls(counting, **options)  # type: ignore[arg-type]


def test_a_known_leaf_is_given_without_work(counting: Counting) -> None:
    """A new connection to a known host signs nothing and loads nothing."""
    tls = watched(counting)
    assert tls.known(HOST) is None
    made = leaf_for(tls)
    assert tls.known(HOST) is made
    assert leaf_for(tls) is made
    assert counting.hosts == [HOST]
    tls.close()


def test_a_leaf_is_made_outside_the_loops_thread(counting: Counting) -> None:
    """Two milliseconds of work for each new name would stop every connection of the worker."""
    before = threading.active_count()
    tls = watched(counting)
    assert threading.active_count() == before  # a thread would not live on in the workers, after the fork
    leaf_for(tls)
    assert threading.get_ident() not in counting.threads
    tls.close()


def test_a_leaf_is_made_once_for_all_who_ask_at_once(counting: Counting) -> None:
    """Fifty connections to one new host cost one leaf."""
    tls = watched(counting)

    async def ask() -> set[ssl.SSLContext]:
        return set(await asyncio.gather(*(tls.prepare(HOST) for _ in range(50))))

    assert len(asyncio.run(ask())) == 1
    assert counting.hosts == [HOST]
    tls.close()


def test_a_leaf_is_made_anew_in_time(authority: Authority, counting: Counting) -> None:
    """From `renew_after` on a context is no longer given; the next one has the new certificate."""
    now = [time.time()]
    tls = watched(counting, clock=lambda: now[0])
    first = leaf_for(tls)
    renew_after = authority.leaf(HOST).renew_after.timestamp()
    now[0] = renew_after - 1
    assert tls.known(HOST) is first
    now[0] = renew_after
    assert tls.known(HOST) is None
    assert leaf_for(tls) is not first
    assert counting.hosts == [HOST, HOST]
    tls.close()


def test_the_least_used_contexts_make_room(counting: Counting) -> None:
    """A sandbox that walks through names takes no more memory than the limit."""
    tls = watched(counting, max_contexts=2)
    for host in ("a.example.com", "b.example.com"):
        leaf_for(tls, host)
    assert tls.known("a.example.com") is not None
    leaf_for(tls, "c.example.com")
    assert tls.known("b.example.com") is None
    assert tls.known("a.example.com") is not None
    assert tls.known("c.example.com") is not None
    tls.close()


def test_what_cannot_be_made_is_told_to_all_who_ask_and_is_tried_again(counting: Counting) -> None:
    """A failure is no state."""
    tls = watched(counting)

    async def ask() -> list[ssl.SSLContext | BaseException]:
        return await asyncio.gather(*(tls.prepare("*.example.com") for _ in range(3)), return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(ask())] == [ValueError] * 3
    with pytest.raises(ValueError, match="canonical"):
        leaf_for(tls, "*.example.com")
    assert leaf_for(tls) is tls.known(HOST)
    tls.close()


def test_an_expired_ca_makes_no_leaf(tmp_path: Path) -> None:
    """As `Authority.leaf` says it."""
    now = [datetime.now(UTC)]
    tls = ClientTls(Authority.load_or_create(tmp_path / "ca", clock=lambda: now[0]))
    now[0] += timedelta(days=5000)
    with pytest.raises(StateError, match="expired"):
        leaf_for(tls)
    tls.close()


def test_who_leaves_takes_only_what_nobody_else_waits_for(counting: Counting) -> None:
    """A queued leaf of clients that have left is never made; one that another still waits for is."""
    tls = watched(counting)
    counting.go.clear()

    async def play() -> None:
        running = asyncio.create_task(tls.prepare("a.example.com"))
        alone = asyncio.create_task(tls.prepare("b.example.com"))
        leaves, stays = (asyncio.create_task(tls.prepare("c.example.com")) for _ in range(2))
        await asyncio.sleep(0.05)
        alone.cancel()
        leaves.cancel()
        await asyncio.sleep(0.05)
        again = asyncio.create_task(tls.prepare("d.example.com"))
        await asyncio.sleep(0)
        counting.go.set()
        await asyncio.gather(running, stays, again)

    asyncio.run(play())
    assert counting.hosts == ["a.example.com", "c.example.com", "d.example.com"]
    tls.close()


def test_one_who_comes_after_the_last_has_left_gets_a_leaf(counting: Counting) -> None:
    """He is not told of the others' leaving."""
    tls = watched(counting)
    counting.go.clear()

    async def play() -> ssl.SSLContext:
        first = asyncio.create_task(tls.prepare(HOST))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(tls.prepare(HOST))
        await asyncio.sleep(0)
        counting.go.set()
        return await second

    assert asyncio.run(play()) is tls.known(HOST)
    tls.close()


# the key


def test_the_key_is_read_from_memory_and_nothing_stays_open(tls: ClientTls, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file on a disk ever holds it, not even for a moment."""
    seen: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def watching(context: ssl.SSLContext, path: str) -> None:
        seen.append(str(Path(path).readlink()))
        load(context, path)

    leaf_for(tls, OTHER)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watching)
    before = sorted(Path("/proc/self/fd").iterdir())
    leaf_for(tls)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert [place.startswith("/memfd:") for place in seen] == [True]


def test_a_process_without_descriptors_says_so(tls: ClientTls, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that the caller knows, which refuses the connection; the next try may do."""

    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", none_left)
        with pytest.raises(StateError, match="Too many open files"):
            leaf_for(tls)
    leaf_for(tls)


# the socket


def test_a_hello_that_was_only_peeked_at_is_read_by_the_handshake(tls: ClientTls, authority: Authority) -> None:
    """The front looks at it first; the socket stays non-blocking."""
    with sockets() as (theirs, ours):
        client = client_side(client_context(authority.certificate_pem), theirs, HOST)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        assert ours.recv(65_536, socket.MSG_PEEK)[0] == 0x16
        server = tls.wrap(ours, leaf_for(tls))
        assert ours.fileno() == -1
    with client, server:
        assert server.gettimeout() == 0
        assert shake(client, server) == (None, None)


def test_a_client_that_was_reset_gets_no_plain_text(tls: ClientTls) -> None:
    """Where there is no TLS there is nothing: Python's own socket would write in the clear then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    ours.settimeout(0)
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    wrapped = tls.wrap(ours, leaf_for(tls))
    with wrapped:
        with pytest.raises(OSError, match="not connected"):
            wrapped.do_handshake()
        for send in (wrapped.send, wrapped.sendall):
            with pytest.raises(OSError, match="TLS has ended"):
                send(b"secret")
